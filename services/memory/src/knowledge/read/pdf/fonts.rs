//! Fonts of a PDF, as far as text needs them: letters of codes, and how far a code moves the pen.

use lopdf::{Dictionary, Document, Encoding, Object};

/// Bytes that a font's table of letters may unpack to.
const LETTERS_BYTES_MAX: usize = 1024 * 1024;
/// Thousandths of the font's size: of a letter whose width nobody says.
const WIDTH_USUAL: f64 = 500.0;
/// What ISO 32000-1, 9.7.4.3 gives codes of composite fonts.
const WIDTH_COMPOSITE: f64 = 1_000.0;
/// Entries of a table of widths.
const WIDTHS_MAX: usize = 65_536;

pub(super) struct Font<'a> {
    encoding: Option<Encoding<'a>>,
    is_composite: bool,
    widths: Widths,
}

/// Sorted ranges of codes: first, last, width in thousandths of the size.
struct Widths {
    ranges: Vec<(u32, u32, f64)>,
    default: f64,
}

impl<'a> Font<'a> {
    pub(super) fn of(document: &'a Document, dictionary: &'a Dictionary) -> Self {
        let is_composite = dictionary
            .get(b"Subtype")
            .and_then(Object::as_name)
            .is_ok_and(|name| name == b"Type0");
        let encoding = dictionary
            .get_font_encoding_with_limit(document, LETTERS_BYTES_MAX)
            .ok();
        let widths = if is_composite {
            composite_widths(document, dictionary)
        } else {
            simple_widths(document, dictionary)
        };
        Self {
            encoding,
            is_composite,
            widths: widths.sorted(),
        }
    }

    /// Empty where nobody knows which letters the codes are.
    pub(super) fn text(&self, codes: &[u8]) -> String {
        let decoded = self
            .encoding
            .as_ref()
            .map(|encoding| Document::decode_text(encoding, codes));
        decoded.and_then(Result::ok).unwrap_or_default()
    }

    /// Width of each code in thousandths of the size, and whether it is the space (code 32 of one byte).
    pub(super) fn advances<'c>(&'c self, codes: &'c [u8]) -> impl Iterator<Item = (f64, bool)> + 'c {
        let length = if self.is_composite { 2 } else { 1 };
        codes.chunks(length).map(move |code| {
            let number = code.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
            (self.widths.of(number), code == [b' '])
        })
    }
}

impl Widths {
    fn sorted(mut self) -> Self {
        self.ranges.sort_by_key(|(first, _, _)| *first);
        self
    }

    fn of(&self, code: u32) -> f64 {
        let next = self.ranges.partition_point(|(first, _, _)| *first <= code);
        match next.checked_sub(1).map(|index| self.ranges[index]) {
            Some((_, last, width)) if code <= last => width,
            _ => self.default,
        }
    }
}

fn simple_widths(document: &Document, font: &Dictionary) -> Widths {
    let first = font.get_deref(b"FirstChar", document).ok().and_then(code).unwrap_or(0);
    let widths = font.get_deref(b"Widths", document).and_then(Object::as_array);
    let ranges = widths
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .take(256)
        .zip(first..);
    Widths {
        ranges: ranges
            .filter_map(|(width, code)| Some((code, code, number(document, width)?)))
            .collect(),
        default: WIDTH_USUAL,
    }
}

/// `W` of the descendant: `first [w w …]`, or `first last w` (ISO 32000-1, 9.7.4.3).
fn composite_widths(document: &Document, font: &Dictionary) -> Widths {
    let none = |default| Widths {
        ranges: Vec::new(),
        default,
    };
    let descendants = font
        .get_deref(b"DescendantFonts", document)
        .and_then(Object::as_array)
        .ok();
    let descendant = descendants
        .and_then(|fonts| fonts.first())
        .and_then(|font| document.dereference(font).ok())
        .and_then(|(_, font)| font.as_dict().ok());
    let Some(descendant) = descendant else {
        return none(WIDTH_COMPOSITE);
    };
    let default = descendant.get(b"DW").ok().and_then(|width| number(document, width));
    let mut widths = none(default.unwrap_or(WIDTH_COMPOSITE));
    let Ok(table) = descendant.get_deref(b"W", document).and_then(Object::as_array) else {
        return widths;
    };
    let mut entries = table.iter();
    while let (Some(first), Some(next)) = (entries.next().and_then(code), entries.next()) {
        if widths.ranges.len() > WIDTHS_MAX {
            break;
        }
        match document.dereference(next) {
            Ok((_, Object::Array(each))) => {
                let each = each.iter().zip(first..);
                let each = each.filter_map(|(width, code)| Some((code, code, number(document, width)?)));
                widths.ranges.extend(each.take(WIDTHS_MAX));
            }
            Ok((_, last)) => {
                let width = entries.next().and_then(|width| number(document, width));
                if let (Some(last), Some(width)) = (code(last), width) {
                    widths.ranges.push((first, last, width));
                }
            }
            Err(_) => break,
        }
    }
    widths
}

fn code(object: &Object) -> Option<u32> {
    object.as_i64().ok().and_then(|code| u32::try_from(code).ok())
}

fn number(document: &Document, object: &Object) -> Option<f64> {
    let (_, object) = document.dereference(object).ok()?;
    object
        .as_float()
        .ok()
        .map(f64::from)
        .filter(|number| number.is_finite())
}
