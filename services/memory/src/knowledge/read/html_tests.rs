//! What of a page becomes text, and which structure is seen.

use std::time::Duration;

use super::*;

fn read(page: &str) -> Reading {
    super::read(page, Instant::now() + Duration::from_secs(60)).unwrap()
}

const PAGE: &str = "<!doctype html><html><head><title>Tea &amp; more</title><style>p{}</style>\
    <script>if (a < b) { document.write('<p>no</p>') }</script></head><body><nav><ul><li>Home</li></ul></nav>\
    <h2>How   to <em>brew</em></h2><p>Boil&nbsp;water,\n  wait &lt; 5 minutes.<br>Pour.</p>\
    <ul><li>green<li>black</ul><table><tr><th>Tea</th><th>°C</th></tr><tr><td><p>Sencha</p></td><td>70</td></tr>\
    </table><pre>a  b\n c</pre><h3>End</h3>fin</body></html>";

fn parts(reading: &Reading) -> Vec<String> {
    let marks = &reading.marks;
    let parts = marks.iter().enumerate().map(|(index, mark)| {
        let end = marks.get(index + 1).map_or(reading.text.len(), |next| next.at);
        let text = reading.text[mark.at..end].trim();
        match &mark.kind {
            Kind::Heading { level, title } => format!("h{level} {title}={text}"),
            Kind::Paragraph => format!("p {text}"),
            Kind::Whole => format!("w {text}"),
        }
    });
    let first = marks.first().map_or(reading.text.len(), |mark| mark.at);
    let before = format!("p {}", reading.text[..first].trim());
    std::iter::once(before)
        .chain(parts)
        .filter(|part| part != "p ")
        .collect()
}

#[test]
fn a_page_becomes_text_with_its_structure() {
    assert_eq!(
        parts(&read(PAGE)),
        [
            "h1 Tea & more=",
            "h2 How to brew=How to brew",
            "p Boil\u{a0}water, wait < 5 minutes.\nPour.",
            "p - green",
            "p - black",
            "w Tea | °C\nSencha | 70",
            "w a  b\n c",
            "h3 End=End",
            "p fin"
        ]
    );
}

#[test]
fn a_first_heading_of_the_page_stands_above_its_title() {
    assert_eq!(
        parts(&read("<title>x</title><h1>Real</h1>text")),
        ["h1 Real=Real", "p text"]
    );
}

#[test]
fn what_is_never_closed_hides_no_content() {
    assert_eq!(parts(&read("<nav><a>menu</a><main>text")), ["p text"]);
    assert_eq!(parts(&read("before<h1>open")), ["p before", "h1 open=open"]);
    assert_eq!(parts(&read("</td></nav></table></li>a</p>b")), ["p a", "p b"]);
}

#[test]
fn deep_and_broken_pages_cost_no_more_than_others() {
    let deep = "<b><p>".repeat(200_000);
    assert!(read(&format!("{deep}x")).text.ends_with('x'));
    assert!(read(&"<table>".repeat(100_000)).is_blank());
    assert!(read(&"<a b='".repeat(100_000)).is_blank());
}

#[test]
fn the_encoding_is_where_pages_say_it() {
    assert_eq!(
        declared_charset(b"<head><meta charset=\"Windows-1251\">").as_deref(),
        Some("windows-1251")
    );
    let older = b"<meta http-equiv=content-type content='text/html; charset=koi8-u'>";
    assert_eq!(declared_charset(older).as_deref(), Some("koi8-u"));
    assert_eq!(declared_charset(b"<p>charset=x"), None);
}

proptest::proptest! {
    #[test]
    fn marks_are_places_of_the_text_in_order(page in "(<(p|h1|h2|li|table|tr|td|pre|nav|/nav|/h1|/table|br|div)>|[a-zа-я <&;\n]{0,6}){0,40}") {
        let reading = read(&page);
        let mut last = 0;
        for mark in &reading.marks {
            proptest::prop_assert!(mark.at >= last && reading.text.is_char_boundary(mark.at));
            last = mark.at;
        }
    }
}

#[test]
fn hostile_pages_are_read_in_linear_time_or_not_to_their_end() {
    let headings = read(&"<p>a</p><h2>x</h2>".repeat(50_000));
    assert_eq!(headings.marks.len(), 100_000);
    let lines = read(&format!("<pre>a{}b", "\n".repeat(1_000_000)));
    assert_eq!(lines.text.len(), 1_000_002);
    let spaces = read(&format!("<pre>a{}b", " <p>".repeat(250_000)));
    assert!(spaces.text.ends_with('b'));
    let late = super::read(&format!("<a {}>", "x ".repeat(10_000)), Instant::now()).unwrap_err();
    assert!(late.why.contains("too long"), "{late:?}");
}
