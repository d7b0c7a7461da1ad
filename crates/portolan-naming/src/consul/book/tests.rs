//! What a book shows of what it reads.

use super::*;
use crate::fixture;
use portolan_model::{Health, Incarnation, Owner};

fn row(service: &str, id: &str, node: &str, modified: u64) -> Row {
    let instance = fixture::instance(service, id, modified);
    Row {
        node: node.to_owned(),
        service_id: id.to_owned(),
        registration: instance.registration.clone(),
        phase: Phase::Adult,
        ours: true,
        alive: None,
        word: None,
        marks: Default::default(),
        reachable: true,
        unheard: Health::Passing,
        created: modified,
        modified,
    }
}

fn name(service: &str) -> ServiceName {
    ServiceName::new(service).unwrap()
}

fn take(book: &mut Book, service: &str, rows: Vec<Row>) -> Vec<String> {
    told(book.take(&name(service), shared(rows), Instant::now()))
}

fn told(changes: Vec<Change>) -> Vec<String> {
    let told = changes.into_iter().map(|change| match change {
        Change::Upsert { revision, instance } => {
            format!("{revision}+{}:{}", instance.service(), instance.id())
        }
        Change::Remove { revision, service, id } => format!("{revision}-{service}:{id}"),
        Change::Reset { .. } => unreachable!("a book tells only differences"),
    });
    told.collect()
}

fn shared(rows: Vec<Row>) -> Vec<Arc<Row>> {
    rows.into_iter().map(Arc::new).collect()
}

#[test]
fn differences_in_order_and_with_growing_revisions() {
    let mut book = Book::new(Duration::ZERO);
    book.fill(3);
    let rows = || vec![row("web", "b", "n", 7), row("web", "a", "n", 9)];
    assert_eq!(take(&mut book, "web", rows()), ["7+web:b", "9+web:a"]);
    assert!(take(&mut book, "web", rows()).is_empty(), "the same again tells nothing");
    assert_eq!(take(&mut book, "api", vec![row("api", "c", "n", 5)]), ["10+api:c"], "read late");
    assert_eq!(take(&mut book, "web", vec![row("web", "a", "n", 9)]), ["11-web:b"]);
    assert_eq!(take(&mut book, "web", vec![]), ["12-web:a"]);
    assert_eq!(book.services().collect::<Vec<_>>(), [&name("api")]);
}

#[test]
fn what_is_read_of_some_says_nothing_of_others() {
    let mut book = Book::new(Duration::ZERO);
    book.fill(3);
    let of = |book: &mut Book, ids: &[&str], rows| {
        let ids = ids.iter().map(|id| InstanceId::new(*id).unwrap()).collect();
        told(book.take_of(&name("web"), &ids, shared(rows), Instant::now()))
    };
    assert_eq!(of(&mut book, &["a"], vec![row("web", "a", "n", 7)]), ["7+web:a"], "the first of its service");
    take(&mut book, "web", vec![row("web", "a", "n", 7), row("web", "b", "n", 8)]);
    assert_eq!(of(&mut book, &["c", "d"], vec![row("web", "c", "n", 9)]), ["9+web:c"]);
    assert_eq!(of(&mut book, &["a", "c"], vec![row("web", "c", "m", 12)]), ["10-web:a"]);
    assert_eq!(book.rows_of(&InstanceId::new("c").unwrap()).count(), 1, "no longer on the other node");
    assert_eq!(take(&mut book, "web", vec![row("web", "b", "n", 8)]), ["11-web:c"]);
    assert_eq!(of(&mut book, &["b"], vec![]), ["12-web:b"]);
    assert_eq!((book.services().count(), book.all().len()), (0, 0));
}

#[test]
fn the_first_read_has_the_indexes_of_consul() {
    let mut book = Book::new(Duration::ZERO);
    take(&mut book, "web", vec![Row { modified: 9, ..row("web", "a", "n", 7) }]);
    take(&mut book, "api", vec![row("api", "c", "n", 5)]);
    book.fill(12);
    let known: Vec<_> = book.all().iter().map(|i| (i.created.0, i.modified.0)).collect();
    assert_eq!((known, book.revision()), (vec![(7, 9), (5, 5)], Revision(12)));
}

#[test]
fn an_id_moves_between_services_once() {
    let mut book = Book::new(Duration::ZERO);
    take(&mut book, "from", vec![row("from", "a", "n", 1)]);
    book.fill(1);
    assert_eq!(take(&mut book, "to", vec![row("to", "a", "n", 5)]), ["2-from:a", "5+to:a"]);
    assert!(take(&mut book, "from", vec![row("from", "a", "n", 1)]).is_empty(), "an answer that comes late");
    assert!(take(&mut book, "from", vec![]).is_empty());
    assert_eq!(book.all().len(), 1);
}

#[test]
fn changes_one_by_one() {
    let mut book = Book::new(Duration::ZERO);
    book.fill(3);
    let upsert = |service, id, at| Delta::Upsert(row(service, id, "", at));
    let remove = |service, id| Delta::Remove { service: name(service), id: InstanceId::new(id).unwrap() };
    let mut check = |delta: Delta, expect: &[&str]| {
        assert_eq!(told(book.take_one(delta, Instant::now())), expect);
    };
    check(upsert("web", "a", 5), &["5+web:a"]);
    check(upsert("web", "a", 5), &[]);
    check(upsert("web", "b", 7), &["7+web:b"]);
    check(upsert("api", "a", 8), &["8-web:a", "9+api:a"]);
    check(remove("web", "a"), &[]);
    check(remove("web", "b"), &["10-web:b"]);
    check(remove("web", "b"), &[]);
    check(remove("api", "a"), &["11-api:a"]);
    assert_eq!((book.services().count(), book.rows.len(), book.all().len()), (0, 0, 0));
}

#[test]
fn the_last_one_of_a_service_stays_for_a_while_when_its_end_is_told() {
    let mut book = Book::new(Duration::from_secs(5));
    book.fill(0);
    let now = Instant::now();
    book.take_one(Delta::Upsert(row("web", "a", "", 1)), now);
    let gone = || Delta::Remove { service: name("web"), id: InstanceId::new("a").unwrap() };
    assert_eq!(told(book.take_one(gone(), now)), [""; 0]);
    assert_eq!(told(book.expire(now + Duration::from_secs(5))), ["2-web:a"]);
}

#[test]
fn one_id_on_two_nodes_is_one_instance() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut Row, &mut Row), expect: &str) {
        let (mut old, mut new) = (row("web", "a", "old", 1), row("web", "a", "new", 5));
        change(&mut old, &mut new);
        let mut book = Book::new(Duration::ZERO);
        book.take(&name("web"), shared(vec![old, new]), Instant::now());
        assert_eq!((book.winner(book.all()[0].id()).unwrap().node.as_str(), book.all().len()), (expect, 1));
    }
    check(|_, _| {}, "new");
    check(|_, new| new.reachable = false, "old");
    check(|_, new| new.registration.health = Health::Critical, "old");
    check(|old, _| old.registration.incarnation = Incarnation(9), "old");
    check(
        |old, _| {
            old.registration.incarnation = Incarnation(9);
            old.registration.owner = Owner::new("other").unwrap();
        },
        "new",
    );
}

#[test]
fn the_last_ones_that_vanish_while_well_are_kept_for_a_while() {
    let now = Instant::now();
    let s = Duration::from_secs;
    let mut book = Book::new(s(2));
    take(&mut book, "web", vec![row("web", "a", "n", 1), row("web", "b", "n", 2)]);
    book.fill(2);
    assert_eq!(take(&mut book, "web", vec![row("web", "b", "n", 2)]), ["3-web:a"], "not the last one");
    assert!(book.take(&name("web"), shared(vec![]), now).is_empty());
    assert_eq!((book.kept(), book.next_expiry()), (1, Some(now + s(2))));
    assert!(take(&mut book, "web", vec![row("web", "b", "n", 9)]).is_empty(), "it came back as it was");
    assert_eq!(book.kept(), 0);
    assert!(book.take(&name("web"), shared(vec![]), now).is_empty());
    assert!(book.expire(now + s(1)).is_empty());
    assert_eq!(told(book.expire(now + s(2))), ["4-web:b"]);
}

#[test]
fn those_of_a_node_out_of_reach_are_kept_for_longer() {
    let now = Instant::now();
    let away = || {
        let mut row = Row { reachable: false, ..row("web", "a", "n", 1) };
        row.registration.health = Health::Critical;
        row
    };
    #[track_caller]
    fn check(mut book: Book, row: Row, now: Instant, expect: Option<Duration>) {
        book.take(&name("web"), shared(vec![row]), now);
        book.fill(1);
        book.take(&name("web"), shared(vec![]), now);
        assert_eq!(book.next_expiry().map(|until| until - now), expect);
    }
    check(Book::new(Duration::from_secs(2)), away(), now, Some(OUT_OF_REACH));
    check(Book::new(Duration::from_secs(2)), Row { reachable: true, ..away() }, now, None);
    check(Book::new(Duration::ZERO), away(), now, None);
}

#[test]
fn what_is_expected_to_vanish_is_believed() {
    let mut book = Book::new(Duration::from_secs(2));
    take(&mut book, "web", vec![row("web", "a", "n", 1)]);
    book.fill(1);
    book.expect_gone(fixture::instance("web", "a", 1).id(), Instant::now());
    assert_eq!(take(&mut book, "web", vec![]), ["2-web:a"], "this handle removed it");
    let critical = |mut row: Row| {
        row.registration.health = Health::Critical;
        row
    };
    take(&mut book, "api", vec![critical(row("api", "b", "n", 3))]);
    assert_eq!(take(&mut book, "api", vec![]), ["4-api:b"], "nobody would have used it");
}

#[test]
fn the_last_usable_ones_are_not_taken_for_dead_because_nobody_hears_of_them() {
    let now = Instant::now();
    let silent = |id: &str| {
        let mut row = row("web", id, "n", 9);
        row.registration.health = Health::Critical;
        row
    };
    let well = |id: &str| row("web", id, "n", 1);
    let mut book = Book::new(Duration::from_secs(2));
    take(&mut book, "web", vec![well("a"), well("b")]);
    book.fill(2);
    assert_eq!(take(&mut book, "web", vec![well("a"), silent("b")]), ["9+web:b"], "another is heard of");
    assert!(book.take(&name("web"), shared(vec![silent("a"), silent("b")]), now).is_empty());
    assert_eq!((book.kept(), book.next_expiry()), (1, Some(now + SILENCE)));
    let later = now + SILENCE / 2;
    assert!(book.take(&name("web"), shared(vec![silent("a"), silent("b")]), later).is_empty());
    assert_eq!(book.next_expiry(), Some(now + SILENCE), "silence does not last longer by being heard again");
    assert!(take(&mut book, "web", vec![well("a"), silent("b")]).is_empty(), "as it was");
    assert_eq!(book.kept(), 0);
    assert!(book.take(&name("web"), shared(vec![silent("a"), silent("b")]), now).is_empty());
    assert_eq!(told(book.expire(now + SILENCE)), ["10+web:a"]);
    assert_eq!(book.all()[0].registration.health, Health::Critical);
    let mut worse = silent("a");
    worse.unheard = Health::Critical;
    assert!(take(&mut book, "web", vec![worse.clone(), silent("b")]).is_empty());
    take(&mut book, "web", vec![well("a"), silent("b")]);
    assert_eq!(take(&mut book, "web", vec![worse, silent("b")]), ["12+web:a"], "said, and not only silent");
}

#[test]
fn after_a_loss_of_memory_all_are_kept() {
    let now = Instant::now();
    let mut book = Book::new(Duration::ZERO);
    take(&mut book, "web", vec![row("web", "a", "n", 100), row("web", "b", "n", 101)]);
    book.fill(101);
    book.doubt_until(now + Duration::from_secs(15));
    assert!(book.take(&name("web"), shared(vec![row("web", "b", "n", 3)]), now).is_empty());
    assert_eq!(book.kept(), 1);
    assert_eq!(told(book.expire(now + Duration::from_secs(15))), ["102-web:a"]);
}
