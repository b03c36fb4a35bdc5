use proptest::prelude::*;

use super::*;
use crate::model::check::Judged;
use crate::sinks::check::tests::{EVIL, failing, from};
use crate::sinks::fixture;

fn document(judged: &[Judged], hostname: &str) -> String {
    let view = fixture::three_groups();
    let host = crate::sinks::HostFacts {
        hostname: hostname.to_owned(),
        ..fixture::host()
    };
    let it = Checked {
        view: &view,
        host: &host,
        from: &from(false),
        baseline: Some("base.skm"),
        judged,
    };
    let mut out = Vec::new();
    write(it, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// An element: its name, attributes, elements in it, and the text in it.
#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Element>,
    text: String,
}

impl Element {
    fn attribute(&self, name: &str) -> &str {
        let found = self.attributes.iter().find(|(n, _)| n == name);
        found.map_or_else(|| panic!("{} has no {name}", self.name), |(_, v)| v)
    }
}

fn unescape(text: &str) -> String {
    assert!(!text.contains('<'), "{text}");
    for part in text.split('&').skip(1) {
        let known = ["amp;", "lt;", "gt;", "quot;", "apos;"];
        assert!(
            known.iter().any(|k| part.starts_with(k)),
            "entity in {text:?}"
        );
    }
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    let text = text.replace("&quot;", "\"").replace("&apos;", "'");
    text.replace("&amp;", "&")
}

/// A strict reader of the XML that is written here: no comments, no CDATA, no namespaces.
fn parse(text: &str) -> Element {
    let mut rest = text
        .strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")
        .expect("a declaration");
    let mut open = vec![Element::default()];
    while let Some(at) = rest.find('<') {
        open.last_mut().unwrap().text += &unescape(&rest[..at]);
        let end = rest[at..].find('>').expect("a tag ends") + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            let done = open.pop().expect("an element is open");
            assert_eq!(done.name, name);
            open.last_mut().expect("a root").children.push(done);
            continue;
        }
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |t| (t, true));
        let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let mut element = Element {
            name: name.to_owned(),
            ..Element::default()
        };
        while !attributes.is_empty() {
            let (key, value) = attributes.split_once("=\"").expect("a value in quotes");
            let (value, more) = value.split_once('"').expect("a closing quote");
            element.attributes.push((key.to_owned(), unescape(value)));
            attributes = more.strip_prefix(' ').unwrap_or_else(|| {
                assert!(more.is_empty(), "{more:?}");
                more
            });
        }
        if empty {
            open.last_mut().unwrap().children.push(element);
        } else {
            open.push(element);
        }
    }
    assert_eq!(rest.trim(), "");
    let mut root = open.pop().unwrap();
    assert!(open.is_empty() && root.children.len() == 1, "one root");
    root.children.pop().unwrap()
}

#[test]
fn the_document() {
    insta::assert_snapshot!(document(&failing(), "box"));
}

#[test]
fn its_structure_is_that_of_junit() {
    let root = parse(&document(&failing(), "box"));
    assert_eq!((root.name.as_str(), root.children.len()), ("testsuites", 1));
    let suite = &root.children[0];
    assert_eq!(suite.name, "testsuite");
    for element in [&root, suite] {
        assert_eq!(element.attribute("tests"), "4");
        assert_eq!(element.attribute("failures"), "3");
    }
    assert_eq!(
        suite.attribute("timestamp").len(),
        "2026-01-31T23:59:59".len()
    );
    let cases: Vec<&Element> = suite
        .children
        .iter()
        .filter(|c| c.name == "testcase")
        .collect();
    assert_eq!(
        (suite.children[0].name.as_str(), cases.len()),
        ("properties", 4)
    );
    let failures: Vec<usize> = cases.iter().map(|c| c.children.len()).collect();
    assert_eq!(failures, [1, 0, 1, 1]);
    assert_eq!(cases[0].children[0].attribute("type"), "exceeded");
    assert_eq!(cases[2].children[0].attribute("type"), "unknown");
    assert_eq!(
        cases[0].children[0].text.lines().count(),
        3,
        "the limit and two sockets"
    );
}

#[test]
fn foreign_strings_stay_text() {
    let mut all = failing();
    all[0].sockets[0].owner.comm = Some(EVIL.to_owned());
    all[0].note = Some(EVIL.to_owned());
    let root = parse(&document(&all, EVIL));
    let suite = &root.children[0];
    let shown = escape::escape(EVIL, false);
    assert_eq!(suite.attribute("hostname"), shown);
    let failure = &suite.children[1].children[0];
    assert!(
        failure.attribute("message").contains(&*shown),
        "{failure:?}"
    );
    assert!(failure.text.matches(&*shown).count() >= 2, "{failure:?}");
}

proptest! {
    #[test]
    fn any_string_is_well_formed_xml(name in any::<String>()) {
        let root = parse(&document(&failing(), &name));
        prop_assert_eq!(root.children[0].attribute("hostname"), &*escape::escape(&name, false));
        let allowed = |c: char| c >= ' ' && !matches!(c as u32, 0xfffe | 0xffff);
        prop_assert!(xml(&name).chars().all(allowed));
    }
}
