//! Reads a document of one of four media types into text with structure. Pure, but for the clock that bounds it: what
//! comes in is hostile, so that each reader is linear in its input or watches the time.

mod html;
mod markdown;
mod pdf;
mod plain;
mod weigh;

use std::time::{Duration, Instant};

use super::reading::Reading;

/// Bytes of the text of a document.
pub(crate) const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a reader may work.
const READ_MAX: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaType {
    Text,
    Markdown,
    Html,
    Pdf,
}

/// Why a document cannot be read, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) why: String,
    pub(crate) next: &'static str,
}

impl Unreadable {
    pub(crate) fn new(why: impl Into<String>, next: &'static str) -> Self {
        Self { why: why.into(), next }
    }
}

impl MediaType {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text/plain",
            Self::Markdown => "text/markdown",
            Self::Html => "text/html",
            Self::Pdf => "application/pdf",
        }
    }

    /// Of a declared type, parameters and case aside. Other kinds of text are text.
    pub(crate) fn declared(text: &str) -> Option<Self> {
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "text/markdown" | "text/x-markdown" => Some(Self::Markdown),
            "text/html" | "application/xhtml+xml" => Some(Self::Html),
            "application/pdf" | "application/x-pdf" => Some(Self::Pdf),
            other if other.starts_with("text/") => Some(Self::Text),
            _ => None,
        }
    }

    /// Of a name's ending.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let (_, ending) = name.rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "md" | "markdown" => Some(Self::Markdown),
            "html" | "htm" | "xhtml" => Some(Self::Html),
            "pdf" => Some(Self::Pdf),
            "txt" | "text" | "log" | "csv" => Some(Self::Text),
            _ => None,
        }
    }

    /// Of the first bytes; text when nothing else is seen.
    pub(crate) fn sniffed(bytes: &[u8]) -> Self {
        let head = &bytes[..bytes.len().min(1024)];
        // The header may stand anywhere in the first KiB (ISO 32000-1, annex H).
        if head.windows(5).any(|window| window == b"%PDF-") {
            return Self::Pdf;
        }
        let head = String::from_utf8_lossy(head)
            .trim_start_matches('\u{feff}')
            .to_ascii_lowercase();
        let head = head.trim_start();
        if ["<!doctype html", "<html", "<head", "<body"]
            .iter()
            .any(|tag| head.starts_with(tag))
        {
            return Self::Html;
        }
        Self::Text
    }
}

/// Reads `bytes`; `charset` is the declared encoding, if any.
pub(crate) fn read(media: MediaType, bytes: &[u8], charset: Option<&str>) -> Result<Reading, Unreadable> {
    let deadline = Instant::now() + READ_MAX;
    let reading = match media {
        MediaType::Text => plain::read(decoded(bytes, charset, Fallback::Refuse)?),
        MediaType::Markdown => markdown::read(decoded(bytes, charset, Fallback::Refuse)?),
        MediaType::Html => {
            let meta = charset.map(str::to_owned).or_else(|| html::declared_charset(bytes));
            html::read(&decoded(bytes, meta.as_deref(), Fallback::Replace)?, deadline)?
        }
        MediaType::Pdf => pdf::read(bytes, deadline)?,
    };
    if reading.text.len() > TEXT_BYTES_MAX {
        return Err(Unreadable::new(
            format!(
                "its text has {} bytes, at most {TEXT_BYTES_MAX} are taken",
                reading.text.len()
            ),
            "split it into several documents",
        ));
    }
    if reading.is_blank() {
        return Err(Unreadable::new(
            "it has no text",
            "check that it is the document that was meant",
        ));
    }
    Ok(reading)
}

/// What bytes that are no text of the encoding become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fallback {
    Refuse,
    /// As browsers do: one bad byte in a page is common.
    Replace,
}

/// Text in UTF-8, its lines ended by a line feed.
fn decoded(bytes: &[u8], charset: Option<&str>, fallback: Fallback) -> Result<String, Unreadable> {
    let encoding = match charset {
        Some(label) => encoding_rs::Encoding::for_label(label.as_bytes()).ok_or_else(|| {
            Unreadable::new(
                format!(
                    "the encoding `{}` is not known",
                    label.chars().take(40).collect::<String>()
                ),
                "save it as UTF-8",
            )
        })?,
        None => encoding_rs::UTF_8,
    };
    // A byte order mark is believed before all else.
    let (text, used, has_errors) = encoding.decode(bytes);
    if has_errors && fallback == Fallback::Refuse {
        return Err(Unreadable::new(
            format!("it is no text in {}", used.name()),
            "save it as UTF-8, or say its encoding, such as `text/plain; charset=windows-1251`",
        ));
    }
    if text.contains('\0') && fallback == Fallback::Refuse {
        return Err(Unreadable::new(
            "it is no text: it contains U+0000",
            "say its media type, or send its text",
        ));
    }
    Ok(text.replace('\0', " ").replace("\r\n", "\n").replace('\r', "\n"))
}

/// The `charset` parameter of a declared type.
pub(crate) fn charset_of(content_type: &str) -> Option<String> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        (name.trim().eq_ignore_ascii_case("charset") && !value.is_empty()).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_is_declared_or_named_or_seen() {
        assert_eq!(MediaType::declared("Text/HTML; charset=x"), Some(MediaType::Html));
        assert_eq!(MediaType::declared("text/csv"), Some(MediaType::Text));
        assert_eq!(MediaType::declared("application/octet-stream"), None);
        assert_eq!(MediaType::of_name("a.b.MD"), Some(MediaType::Markdown));
        assert_eq!(MediaType::of_name("README"), None);
        assert_eq!(MediaType::sniffed(b"\n\n%PDF-1.7"), MediaType::Pdf);
        assert_eq!(
            MediaType::sniffed("\u{feff}  <!DOCTYPE html>".as_bytes()),
            MediaType::Html
        );
        assert_eq!(MediaType::sniffed(b"plain"), MediaType::Text);
        for media in [MediaType::Text, MediaType::Markdown, MediaType::Html, MediaType::Pdf] {
            assert_eq!(MediaType::declared(media.as_str()), Some(media));
        }
    }

    #[test]
    fn text_of_other_encodings_is_read_when_it_says_so() {
        let cyrillic = [0xcf, 0xf0, 0xe8, b'\r', b'\n', b'!'];
        let refused = read(MediaType::Text, &cyrillic, None).unwrap_err();
        assert!(
            refused.why.contains("UTF-8") && refused.next.contains("charset"),
            "{refused:?}"
        );
        let charset = charset_of("text/plain; Charset=\"windows-1251\"");
        assert_eq!(
            read(MediaType::Text, &cyrillic, charset.as_deref()).unwrap().text,
            "При\n!"
        );
        let marked = [0xff, 0xfe, 0x1f, 0x04];
        assert_eq!(read(MediaType::Text, &marked, None).unwrap().text, "П");
        assert!(
            read(MediaType::Text, b"x", Some("klingon"))
                .unwrap_err()
                .why
                .contains("klingon")
        );
    }

    #[test]
    fn what_is_no_text_is_refused() {
        assert!(read(MediaType::Text, b"a\0b", None).unwrap_err().why.contains("U+0000"));
        assert!(
            read(MediaType::Markdown, b" \n ", None)
                .unwrap_err()
                .why
                .contains("no text")
        );
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        assert!(
            read(MediaType::Text, long.as_bytes(), None)
                .unwrap_err()
                .why
                .contains("4194304")
        );
        assert!(read(MediaType::Text, &long.as_bytes()[1..], None).is_ok());
    }
}
