//! PDF files as tests need them, written by hand: objects, cross-references that are right, a trailer. The reader's
//! own tests use it too.

/// A PDF of these objects, the first of which (number 1) is the catalog.
pub(crate) fn file(objects: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut places = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        places.push(bytes.len());
        bytes.extend(format!("{} 0 obj\n", index + 1).bytes());
        bytes.extend(object);
        bytes.extend(b"\nendobj\n");
    }
    let table = bytes.len();
    bytes.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).bytes());
    for place in places {
        bytes.extend(format!("{place:010} 00000 n \n").bytes());
    }
    let size = objects.len() + 1;
    bytes.extend(format!("trailer\n<</Size {size} /Root 1 0 R>>\nstartxref\n{table}\n%%EOF\n").bytes());
    bytes
}

/// A stream object; `entries` are of its dictionary, such as `/Filter /FlateDecode`.
pub(crate) fn stream(entries: &str, data: &[u8]) -> Vec<u8> {
    let mut object = format!("<<{entries} /Length {}>>\nstream\n", data.len()).into_bytes();
    object.extend(data);
    object.extend(b"\nendstream");
    object
}

/// One page for each content, all in Helvetica (`F1`); `more` objects are numbered from `6 + 2 * pages`.
pub(crate) fn pages(contents: &[Vec<u8>], resources: &str, more: &[Vec<u8>]) -> Vec<u8> {
    let numbers: Vec<String> = (0..contents.len())
        .map(|page| format!("{} 0 R", 4 + 2 * page))
        .collect();
    let mut objects = vec![
        b"<</Type /Catalog /Pages 2 0 R>>".to_vec(),
        format!(
            "<</Type /Pages /Kids [{}] /Count {}>>",
            numbers.join(" "),
            contents.len()
        )
        .into_bytes(),
        b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding>>".to_vec(),
    ];
    for (page, content) in contents.iter().enumerate() {
        let page = format!(
            "<</Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {} 0 R \
             /Resources <</Font <</F1 3 0 R>> {resources}>>>>",
            5 + 2 * page
        );
        objects.push(page.into_bytes());
        objects.push(content.clone());
    }
    objects.extend_from_slice(more);
    file(&objects)
}

/// Instructions that show lines of text under a title, from the top of a page down.
pub(crate) fn text(title: &str, lines: &[&str]) -> Vec<u8> {
    let mut content = format!("BT /F1 24 Tf 72 720 Td ({title}) Tj /F1 11 Tf 0 -40 Td 14 TL\n");
    for line in lines {
        content.push_str(&format!("({line}) Tj T*\n"));
    }
    content.push_str("ET");
    stream("", content.as_bytes())
}
