//! Real files: what is read of them, and which of them are refused.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::*;
use crate::knowledge::reading::Kind;

#[path = "../../../tests/it/pdf_file.rs"]
mod pdf_file;

use pdf_file::{pages, stream, text};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(120)
}

fn packed(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn refused(file: &[u8]) -> String {
    read(file, soon()).unwrap_err().why
}

#[test]
fn text_of_pages_is_read_with_its_headings() {
    let first = text("Brewing tea", &["Water boils at 100 degrees,", "tea wants less."]);
    let second = stream(
        "/Filter /FlateDecode",
        &packed(b"BT /F1 11 Tf 72 700 Td [(sec) 20 (ond) -400 (page)] TJ ET"),
    );
    let reading = read(&pages(&[first, second], "", &[]), soon()).unwrap();
    assert_eq!(
        reading.text,
        "Brewing tea\n\nWater boils at 100 degrees,\ntea wants less.\n\nsecond page"
    );
    assert_eq!(reading.marks[0].kind, Kind::heading(1, "Brewing tea"));
    assert_eq!(reading.pages, [0, 58]);
}

#[test]
fn letters_of_composite_fonts_are_read_by_their_table() {
    let table = b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /A def\n\
        1 begincodespacerange <0000> <FFFF> endcodespacerange\n\
        3 beginbfchar <0001> <0427> <0002> <0430> <0003> <0439> endbfchar\n\
        endcmap CMapName currentdict /CMap defineresource pop end end";
    let font = b"<</Type /Font /Subtype /Type0 /BaseFont /X /Encoding /Identity-H /ToUnicode 7 0 R \
        /DescendantFonts [<</Type /Font /Subtype /CIDFontType2 /DW 600 /W [1 [700 500]]>>]>>";
    let content = stream("", b"BT /F2 11 Tf 72 700 Td <000100020003> Tj ET");
    let file = pages(&[content], "/Font <</F2 6 0 R>>", &[font.to_vec(), stream("", table)]);
    // Both fonts in one dictionary: the second `Font` entry counts.
    assert_eq!(read(&file, soon()).unwrap().text, "Чай");
}

#[test]
fn forms_are_read_and_may_not_go_round() {
    let form = stream(
        "/Type /XObject /Subtype /Form",
        b"BT /F1 11 Tf 72 700 Td (inside) Tj ET /A Do /A Do",
    );
    let content = stream("", b"/A Do");
    let file = pages(&[content], "/XObject <</A 6 0 R>>", &[form]);
    let reading = read(&file, soon()).unwrap();
    assert!(reading.text.starts_with("inside"), "{}", reading.text);
}

#[test]
fn a_scan_says_that_it_has_no_text() {
    let picture = stream("/Type /XObject /Subtype /Image /Width 1 /Height 1", b"x");
    let file = pages(&[stream("", b"/A Do")], "/XObject <</A 6 0 R>>", &[picture]);
    let problem = read(&file, soon()).unwrap_err();
    assert!(
        problem.why.contains("scan") && problem.next.contains("OCR"),
        "{problem:?}"
    );
}

#[test]
fn bombs_do_not_go_off() {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let spaces = vec![b' '; 1024 * 1024];
    for _ in 0..80 {
        encoder.write_all(&spaces).unwrap();
    }
    let bomb = stream("/Filter /FlateDecode", &encoder.finish().unwrap());
    // As the instructions of one page it is more than all pages may have.
    assert!(refused(&pages(std::slice::from_ref(&bomb), "", &[])).contains("unpack"));
    assert!(refused(&pages(&[bomb.clone(), bomb], "", &[])).contains("unpack"));
    let twice = stream(
        "/Filter [/FlateDecode /FlateDecode]",
        &packed(&packed(&vec![b' '; 100 * 1024 * 1024])),
    );
    assert!(refused(&pages(&[twice], "", &[])).contains("unpack"));
}

#[test]
fn what_is_no_pdf_or_broken_is_refused() {
    for file in [
        b"%PDF-1.7\n".to_vec(),
        b"%PDF-1.7\nxref\n0 99999999\ntrailer<</Root 1 0 R>>startxref 9".to_vec(),
    ] {
        assert!(!refused(&file).is_empty());
    }
    let whole = pages(&[text("Title", &["line"])], "", &[]);
    for cut in (0..whole.len()).step_by(7) {
        // Whatever comes out, it comes out.
        let _ = read(&whole[..cut], soon());
        let mut wrong = whole.clone();
        wrong[cut] ^= 0x55;
        let _ = read(&wrong, soon());
    }
    assert!(refused(&[b"%PDF-1.7\n1 0 obj\n".to_vec(), vec![b'['; 200_000]].concat()).contains("PDF"));
}

#[test]
fn an_encrypted_file_says_so() {
    let whole = pages(&[text("Title", &["line"])], "", &[]);
    let text = String::from_utf8_lossy(&whole);
    let at = text.find("trailer").unwrap();
    let bytes_at = whole.windows(7).position(|window| window == b"trailer").unwrap();
    assert!(at >= bytes_at);
    let key = "00".repeat(32);
    let mut file = whole[..bytes_at].to_vec();
    let trailer = format!(
        "trailer\n<</Size 6 /Root 1 0 R /ID [<00> <00>] /Encrypt <</Filter /Standard /V 1 /R 2 /O <{key}> /U <{key}> \
         /P -4>>>>\n"
    );
    file.extend(trailer.bytes());
    let end = whole.windows(9).position(|window| window == b"startxref").unwrap();
    file.extend(&whole[end..]);
    let problem = read(&file, soon()).unwrap_err();
    assert!(
        problem.why.contains("encrypted") && problem.next.contains("password"),
        "{problem:?}"
    );
}
