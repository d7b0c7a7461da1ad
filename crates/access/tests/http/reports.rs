//! What instances report of themselves, as Consul's clients send it.

use std::sync::{Arc, Mutex};

use portolan_model::{InstanceId, Report, Reported, Reports};

use super::Running;

/// Takes reports of `web` and `a/b`; the check of `asked` asks by itself.
#[derive(Debug, Default)]
struct Taken(Mutex<Vec<String>>);

impl Reports for Taken {
    fn report(&self, id: &InstanceId, Report { health, note }: Report) -> Reported {
        match id.as_str() {
            "h:web:80" | "a/b" => {
                self.0.lock().unwrap().push(format!("{id} {health} {note}"));
                Reported::Taken
            }
            "asked" => Reported::Asked,
            _ => Reported::Unknown,
        }
    }
}

#[tokio::test]
async fn reports_in_consuls_words() {
    let taken = Arc::new(Taken::default());
    let face = Running::reporting_to(Some(taken.clone()));
    let rows = [
        ("pass/service:h:web:80", "", "h:web:80 passing "),
        ("pass/service%3Ah%3Aweb%3A80?note=", "", "h:web:80 passing "),
        ("warn/service:h:web:80?note=slow+disk%21", "", "h:web:80 warning slow disk!"),
        ("fail/service:a%2Fb?note=a&note=b", "ignored", "a/b critical a"),
        ("update/service:a/b", r#"{"Status":"passing","Output":"fine"}"#, "a/b passing fine"),
        ("update/service:a/b", r#"{"status":"warning","output":null}"#, "a/b warning "),
        ("update/service:a/b", r#"{"Status":"critical"}"#, "a/b critical "),
    ];
    for (target, body, expect) in rows {
        let answer = face.put(&format!("/v1/agent/check/{target}"), body).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{target}");
        assert_eq!(taken.0.lock().unwrap().drain(..).collect::<Vec<_>>(), [expect], "{target}");
    }
    let unknown = |id: &str| {
        format!("Unknown check ID {id:?}. Ensure that the check ID is passed, not the check name.")
    };
    let rows = [
        ("pass/service:nobody", "", 404, unknown("service:nobody")),
        ("pass/h:web:80", "", 404, unknown("h:web:80")),
        ("pass/service:", "", 404, unknown("service:")),
        ("pass/", "", 404, unknown("")),
        ("warn/service:asked", "", 500, "CheckID \"service:asked\" does not have associated TTL".to_owned()),
        ("update/service:a/b", r#"{"Status":"fine"}"#, 400, "Invalid check status: 'fine'".to_owned()),
        ("update/service:a/b", "{}", 400, "Invalid check status: ''".to_owned()),
        (
            "update/service:a/b",
            "",
            400,
            "Request decode failed: EOF while parsing a value at line 1 column 0".to_owned(),
        ),
    ];
    for (target, body, status, text) in rows {
        let answer = face.put(&format!("/v1/agent/check/{target}"), body).await;
        assert_eq!((answer.status, answer.body), (status, text), "{target}");
    }
    assert_eq!(face.get("/v1/agent/check/pass/service:a/b").await.status, 405);
    assert!(taken.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn where_nobody_takes_reports_every_check_is_unknown() {
    let face = Running::reporting_to(None);
    assert_eq!(face.put("/v1/agent/check/pass/service:h:web:80", "").await.status, 404);
}
