use super::*;
use crate::container::ContainerId;
use crate::desired::tests::container;
use crate::docker::read;

/// Templates over one container, with what Go's text/template made of them: see
/// `crates/testkit/witness/go-template/main.go`.
#[test]
fn as_go_has_it() {
    let answer: bollard::models::ContainerInspectResponse =
        serde_json::from_str(include_str!("vectors/container.json")).unwrap();
    let id = ContainerId::new(answer.id.clone().unwrap());
    let container = read::container(id, answer).unwrap();
    let mut lines = include_str!("vectors/templates.txt").lines().peekable();
    let (mut rows, mut wrong) = (0, Vec::new());
    while let Some(template) = lines.next() {
        if template.is_empty() || template.starts_with("# ") {
            continue;
        }
        let go = lines.next().unwrap();
        let expect = lines.next_if(|line| line.starts_with("~ ")).map_or(go, |line| &line[2..]);
        let made = TagsTemplate::parse(template).map_err(|error| error.to_string());
        let made = made.and_then(|template| template.text(&container));
        let made = made.map(|text| format!("= {}", text.replace('\n', "␤")));
        let made = made.unwrap_or_else(|error| format!("! {error}"));
        // Errors have words of their own here; they are rows only where Go has none.
        let fits = made == expect || (expect == go && go.starts_with("! ") && made.starts_with("! "));
        if !fits {
            wrong.push(format!("{template}\n  expected {expect}\n  made     {made}"));
        }
        rows += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows > 100, "{rows} rows");
}

/// What `template` makes of a container, or what is wrong with it, or with making it.
#[track_caller]
fn check(template: &str, expect: &str) {
    let mut web = container("web");
    web.hostname = "f00".to_owned();
    web.env = ["ENVIRONMENT=test", "SERVICE_8105_NAME=foo", "HOME=/srv/foobar", "SERVICE_9404_NAME=bar"]
        .map(str::to_owned)
        .into();
    for (key, value) in [
        ("task", "arn:aws:ecs:region:1:task/368f4403"),
        ("json", r#"{"a": {"b": "c", "list": [1, "two"]}, "n": 7}"#),
        ("team", "blue"),
    ] {
        web.labels.insert(key.to_owned(), value.to_owned());
    }
    let made = TagsTemplate::parse(template).map_err(|error| error.to_string());
    let made = made.and_then(|template| template.tags(&web));
    let made = made.map(|tags| tags.into_iter().collect::<Vec<_>>().join("|"));
    assert_eq!(made.unwrap_or_else(|error| format!("! {error}")), expect, "{template}");
}

#[test]
fn lists() {
    check("", "");
    check("b,a", "a|b");
    check(" a , ,b\\,c", "a|b,c");
}

#[test]
fn fields() {
    check("{{.Name}}", "/web");
    check("{{ .ID }}", "web-0123456789abcdef");
    check("{{.Config.Image}}-{{.Config.Hostname}}", "nginx-f00");
    check("{{.Config.Labels.team}}", "blue");
    check("{{.Config.Labels.absent}}{{.Config.Labels.absent.more}}", "");
    check(r#"{{index .Config.Labels "team"}}{{index .Config.Labels "absent"}}"#, "blue");
    check("{{index .Config.Env 2}}", "HOME=/srv/foobar");
    check("{{.HostConfig.NetworkMode}} {{.NetworkSettings.IPAddress}}", "bridge 172.17.0.5");
    check(r#"{{(index .NetworkSettings.Networks "bridge").IPAddress}}"#, "172.17.0.5");
    check(r#"{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}"#, "32768");
}

#[test]
fn functions() {
    check("{{strSlice .ID 0 7}}", "web-012");
    check("{{strSlice .Name 1}}", "web");
    check("{{strSlice .Name 9}} {{strSlice .Name 0 9}} {{strSlice .Name 3 1}}", "/web /web b");
    check("{{sIndex 0 .Config.Env}}", "ENVIRONMENT=test");
    check("{{sIndex -1 .Config.Env}},{{sIndex 9 .Config.Env}}", "SERVICE_9404_NAME=bar");
    check("{{sIndex -9 .Config.Env}}", "ENVIRONMENT=test");
    check(r#"{{mIndex "team" .Config.Labels}}{{mIndex "no" .Config.Labels}}"#, "blue");
    check(r#"{{toUpper "foo"}}{{toLower "FoO"}}"#, "FOOfoo");
    check(r#"{{replace -1 "=" "" "=foo="}} {{replace 1 "=" "" "=foo="}}"#, "foo foo=");
    check(
        r#"{{join "+" .Config.Env}}"#,
        "ENVIRONMENT=test+SERVICE_8105_NAME=foo+HOME=/srv/foobar+SERVICE_9404_NAME=bar",
    );
    check(r#"{{split "/" "/proc/bus"}}"#, "[ proc bus]");
    check(r#"{{splitIndex -1 "/" (mIndex "task" .Config.Labels)}}"#, "368f4403");
    check(r#"{{.Config.Labels.task | split "/" | sIndex 1}}"#, "368f4403");
    check(r#"{{matchFirstElement "^SERVICE_" .Config.Env}}"#, "SERVICE_8105_NAME=foo");
    check(r#"{{matchFirstElement "^NO" .Config.Env}}"#, "");
    check(
        r#"{{matchAllElements "^SERVICE_" .Config.Env | join ","}}"#,
        "SERVICE_8105_NAME=foo|SERVICE_9404_NAME=bar",
    );
    check(r#"{{matchFirstElement (print "^" "HOME") .Config.Env}}"#, "HOME=/srv/foobar");
    check(
        r#"{{jsonParse .Config.Labels.json "a::b"}} {{jsonParse .Config.Labels.json "a::list::[1]"}}"#,
        "c two",
    );
    check(r#"{{jsonParse .Config.Labels.json "n"}}{{jsonParse .Config.Labels.json "x::y"}}"#, "7");
    check(r#"{{printf "%s-%d" .Config.Image 7}},{{len .Config.Env}},{{print 1 2 "a" 3}}"#, "1 2a3|4|nginx-7");
}

#[test]
fn conditions_and_forms() {
    check(r#"{{if eq .Config.Labels.team "red" "blue"}}known{{else}}other{{end}}"#, "known");
    check(
        r#"{{if eq .Config.Labels.team "blue"}}b{{else if .Config.Labels.absent}}x{{else}}o{{end}},z"#,
        "b|z",
    );
    check(r#"{{if .Config.Labels.absent}}x{{else if not .Config.Labels.team}}y{{else}}z{{end}}"#, "z");
    check(r#"{{if and .Config.Labels.team (ne .Name "/x")}}yes{{end}}"#, "yes");
    check(r#"{{if eq .Config.Labels.absent ""}}none{{end}}"#, "none");
    check(r#"{{or .Config.Labels.absent "else"}}"#, "else");
    check("{{if .Name}}{{if .ID}}both{{end}}{{end}}", "both");
    check("a   {{- /* nothing to see */ -}}   b", "ab");
    check("a {{- .Name -}} ,b", "a/web|b");
    check("{{`a}}b`}}{{\"\\\"}}\"}}", "a}}b\"}}");
    check("a}}b", "a}}b");
    // Later than the Go that the other rows are from.
    check("{{with .Config.Labels.absent}}x{{else with .Config.Labels.team}}{{.}}{{end}}", "blue");
    check("{{range $i := 3}}{{$i}}{{end}}", "012");
    check("{{$x := \"\"}}{{range $x = .Config.Env}}{{end}}{{$x}}", "SERVICE_9404_NAME=bar");
}

#[test]
fn mistakes_are_named_with_their_place() {
    check(
        "ab,{{foo}}",
        "! tags template, character 6: there is no function foo; there are strSlice, sIndex, mIndex, toUpper, toLower, replace, join, split, splitIndex, matchFirstElement, matchAllElements, jsonParse, index, slice, len, eq, ne, lt, le, gt, ge, not, and, or, print, printf, println",
    );
    check(
        "é{{httpGet \"x\"}}",
        "! tags template, character 4: httpGet is not offered: tags wait for no network",
    );
    check(
        "{{.Config.Nope}}",
        "! tags template, character 3: there is no field .Config.Nope; there are .ID, .Name, .Config.Image, .Config.Labels, .Config.Env, .Config.Hostname, .HostConfig.NetworkMode, .NetworkSettings.IPAddress, .NetworkSettings.Networks, .NetworkSettings.Ports",
    );
    let no_value =
        |name: &str| format!("! tags template, character 3: {name} is no value; name a field of it");
    check("{{.}}", &no_value("the container"));
    check("{{$}}", &no_value("the container"));
    check("{{.Config}}", &no_value(".Config"));
    check("{{print .NetworkSettings}}", &no_value(".NetworkSettings"));
    check(
        "{{with .Config}}{{.Name}}{{end}}",
        "! tags template, character 19: there is no field .Config.Name; there are .ID, .Name, .Config.Image, .Config.Labels, .Config.Env, .Config.Hostname, .HostConfig.NetworkMode, .NetworkSettings.IPAddress, .NetworkSettings.Networks, .NetworkSettings.Ports",
    );
    check("{{.Name", "! tags template, character 1: has no }}");
    check("{{}}", "! tags template, character 3: a value is missing");
    check("{{.Name | }}", "! tags template, character 11: a value is missing");
    check("{{.Name | .ID}}", "! tags template, character 11: only a function can follow |");
    check("{{.Name .ID}}", "! tags template, character 3: is no function, and takes no arguments");
    check("{{toUpper}}", "! tags template, character 3: toUpper takes 1 arguments, not 0");
    check(
        "{{.Name | strSlice 1 2 3}}",
        "! tags template, character 11: strSlice takes 1 to 3 arguments, not 4",
    );
    check(
        "{{join toUpper .Name}}",
        "! tags template, character 8: function toUpper as an argument belongs in parentheses",
    );
    check(
        "{{matchAllElements \"(\" .Config.Env}}",
        "! tags template, character 3: \"(\" is no regular expression: found open group without closing ')'",
    );
    check("{{if .Name}}x", "! tags template, character 1: has no {{end}}");
    check("x{{end}}", "! tags template, character 2: belongs to no if, with or range");
    check("{{else}}", "! tags template, character 1: belongs to no if, with or range");
    check("{{if .Name}}{{else}}{{else}}{{end}}", "! tags template, character 21: follows an else");
    check(
        "{{if .ID}}{{else with .Name}}{{end}}",
        "! tags template, character 11: fits no action of another kind",
    );
    check(
        "{{with .ID}}{{else if .Name}}{{end}}",
        "! tags template, character 13: fits no action of another kind",
    );
    check("{{range .Config.Env}}x", "! tags template, character 1: has no {{end}}");
    check("{{range .Config.Env}}{{else}}x", "! tags template, character 1: has no {{end}}");
    check("{{break}}", "! tags template, character 3: break is in no range");
    check(
        "{{template \"x\"}}",
        "! tags template, character 3: template is not offered: tags are one template",
    );
    check("{{js .Name}}", "! tags template, character 3: js is not offered");
    check("{{$x}}", "! tags template, character 3: there is no variable $x here");
    check("{{$x := 1}}{{$y = 2}}", "! tags template, character 14: there is no variable $y here");
    check("{{$ := 1}}", "! tags template, character 3: $ is the container, and no variable");
    check("{{$x, $y := .Config.Env}}", "! tags template, character 3: there is no variable $x here");
    check(
        "{{.Name := 1}}",
        "! tags template, character 3: only a variable at the beginning of an action takes a value",
    );
    check("{{$x :}}", "! tags template, character 6: ':' does not belong here");
    check("{{(toUpper .Name}}", "! tags template, character 3: the parenthesis is not closed");
    check("{{\"a}}", "! tags template, character 3: the text does not end");
    check("{{\"\\d\"}}", "! tags template, character 4: is no escape; write \\\\ for a backslash");
    check("{{1x}}", "! tags template, character 3: \"1x\" is no whole number");
    check("{{/* x }}", "! tags template, character 1: the comment does not end");
    check("{{.Name )}}", "! tags template, character 9: does not belong here");
    check("{{.Name % 2}}", "! tags template, character 9: '%' does not belong here");
    check(&"x".repeat(4097), "! tags template, character 1: has 4097 bytes; at most 4096 are allowed");
    let deep = format!("{{{{{}.Name{}}}}}", "(".repeat(33), ")".repeat(33));
    check(&deep, "! tags template, character 35: nests deeper than 32");
}

#[test]
fn what_fails_on_a_container() {
    check("{{toUpper .Config.Env}}", "! a list where a text belongs");
    check("{{sIndex 0 (split \",\" .Name | matchAllElements \"no\")}}", "! takes one of an empty list");
    check("{{index .Config.Env 9}}", "! index 9 of a list of 4");
    check("{{strSlice .Name -1}}", "! strSlice begins or ends at -1");
    check("{{jsonParse .Name \"a\"}}", "! jsonParse: no JSON: expected value at line 1 column 1");
    check(
        "{{matchAllElements .Config.Labels.json .Config.Env}}",
        r#"! "{\"a\": {\"b\": \"c\", \"list\": [1, \"two\"]}, \"n\": 7}" is no regular expression: counted repetition operator must be applied to a sub-expression"#,
    );
    check("{{printf \"%c\" 1}}", "! printf \"%c\": there are only %s, %v, %d, %q, %t, %x, %X and %%");
    check("{{printf \"%2000d\" 1}}", "! printf \"%2000d\": a width or precision is at most 1024");
    check("{{range .Config.Env}}{{.Name}}{{end}}", "! a text has no field Name");
    check("{{$c := .Config}}{{$c.Name}}", "! a part of the container has no field Name");
    check("{{$c := .Config}}{{$c}}", "! a part of the container where a value belongs");
    check("{{range .Config}}{{end}}", "! ranges over a part of the container");
    check("{{printf \"%s\"}}", "! printf \"%s\": too few arguments");
    check("{{printf \"a\" 1}}", "! printf \"a\": too many arguments");
    // However it multiplies texts, it ends.
    let grow = (0..40).fold("{{.Name".to_owned(), |text, _| text + " | replace -1 \"\" \"0123456789\"");
    check(&(grow + "}}"), "! makes more than 65536 bytes");
    let loops = |depth: usize, body: &str| {
        format!("{}{body}{}", "{{range $.Config.Env}}".repeat(depth), "{{end}}".repeat(depth))
    };
    check(&loops(10, ""), "! takes more than 100000 steps");
    check(&loops(9, "0123456789"), "! makes more than 65536 bytes");
    check("{{range 9000000000000}}{{end}}", "! takes more than 100000 steps");
    let long = format!("{{{{$x := printf \"%1024s\" .Name}}}}{}", loops(7, "{{$y := toUpper $x}}"));
    check(&long, "! takes more than 100000 steps");
    check(&loops(5, "{{$y := matchFirstElement $.Name $.Config.Env}}"), "! takes more than 100000 steps");
}
