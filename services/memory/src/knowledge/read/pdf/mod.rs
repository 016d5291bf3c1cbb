//! PDF: the text that its pages show, in the order in which they show it. Bounded in time, in what it unpacks to and
//! in how deep it goes; scans have no text, and say so.

mod fonts;
mod layout;
mod page;

use std::time::Instant;

use lopdf::{Document, LoadOptions};

use super::weigh::{Weight, weigh};
use super::{TEXT_BYTES_MAX, Unreadable};
use crate::knowledge::reading::Reading;
use layout::Layout;
use page::{Pages, Stopped};

/// Bytes that one stream may unpack to as the file is opened: lists and parcels of objects, never pages.
const OBJECTS_BYTES_MAX: usize = 8 * 1024 * 1024;
const PAGES_MAX: usize = 5_000;

const SAVE_AGAIN: &str = "save it again as PDF with another program, or send its text";

pub(super) fn read(bytes: &[u8], deadline: Instant) -> Result<Reading, Unreadable> {
    match weigh(bytes, deadline) {
        Weight::Fits => {}
        Weight::TooHeavy => return Err(Unreadable::new("its streams unpack to more than is taken", SAVE_AGAIN)),
        Weight::TooSlow => return Err(too_slow()),
    }
    let document = Document::load_mem_with_options(bytes, LoadOptions::with_max_decompressed_size(OBJECTS_BYTES_MAX))
        .map_err(|error| of_opening(&error))?;
    // Opened without a password it would be gone.
    if document.trailer.has(b"Encrypt") {
        return Err(encrypted());
    }
    let ids: Vec<_> = document.page_iter().take(PAGES_MAX + 1).collect();
    if ids.len() > PAGES_MAX {
        return Err(Unreadable::new(
            format!("it has more than {PAGES_MAX} pages"),
            "split it into several documents",
        ));
    }
    let mut pages = Pages::new(&document, deadline);
    let mut layout = Layout::default();
    for id in &ids {
        layout.begin_page();
        pages.show(*id, &mut layout).map_err(|stopped| match stopped {
            Stopped::Time => too_slow(),
            Stopped::Work => Unreadable::new("its pages unpack to more than is taken", SAVE_AGAIN),
        })?;
        if layout.bytes() > TEXT_BYTES_MAX {
            break;
        }
    }
    let reading = layout.finished();
    if reading.is_blank() {
        return Err(Unreadable::new(
            format!("its {} pages show no text, as of a scan", ids.len()),
            "recognise its text first (OCR), and add what comes out",
        ));
    }
    Ok(reading)
}

fn too_slow() -> Unreadable {
    Unreadable::new("reading it takes too long", SAVE_AGAIN)
}

fn encrypted() -> Unreadable {
    Unreadable::new("it is encrypted", "remove its password, and add it again")
}

fn of_opening(error: &lopdf::Error) -> Unreadable {
    match error {
        lopdf::Error::Decryption(_) | lopdf::Error::InvalidPassword | lopdf::Error::UnsupportedSecurityHandler(_) => {
            encrypted()
        }
        lopdf::Error::Decompress(_) => Unreadable::new("its streams unpack to more than is taken", SAVE_AGAIN),
        error => Unreadable::new(format!("it is no PDF that can be opened: {error}"), SAVE_AGAIN),
    }
}

#[cfg(test)]
#[path = "../pdf_tests.rs"]
mod tests;
