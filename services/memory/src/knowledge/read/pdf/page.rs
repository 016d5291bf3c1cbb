//! Runs the instructions of pages that show text, and tells where it is shown (ISO 32000-1, 9.4).

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use lopdf::content::{Content, Operation};
use lopdf::{Dictionary, Document, Object, ObjectId};

use super::fonts::Font;
use super::layout::{Layout, Shown};

/// Bytes of instructions that are run in all; one page or form that is shown twice counts twice.
const INSTRUCTIONS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Forms within forms.
const DEPTH_MAX: usize = 12;
const FONTS_MAX: usize = 512;
const STATES_MAX: usize = 256;

/// Why no more is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    Time,
    Work,
}

pub(super) struct Pages<'a> {
    document: &'a Document,
    deadline: Instant,
    bytes_left: usize,
    /// By the address of their dictionary, which does not move while the document is borrowed.
    fonts: HashMap<*const Dictionary, Rc<Font<'a>>>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(document: &'a Document, deadline: Instant) -> Self {
        Self {
            document,
            deadline,
            bytes_left: INSTRUCTIONS_BYTES_MAX,
            fonts: HashMap::new(),
        }
    }

    pub(super) fn show(&mut self, page: ObjectId, layout: &mut Layout) -> Result<(), Stopped> {
        let document = self.document;
        let (own, ids) = document.get_page_resources(page).unwrap_or_default();
        let others = ids.into_iter().filter_map(|id| document.get_dictionary(id).ok());
        let resources: Vec<&Dictionary> = own.into_iter().chain(others).collect();
        let content = document.get_page_content_with_limit(page, self.bytes_left);
        match content {
            Ok(content) => self.run(&content, &resources, Matrix::IDENTITY, DEPTH_MAX, layout),
            Err(lopdf::Error::Decompress(_)) => Err(Stopped::Work),
            // A page that cannot be read is left out; the others can be.
            Err(_) => Ok(()),
        }
    }

    fn run(
        &mut self,
        content: &[u8],
        resources: &[&'a Dictionary],
        placed: Matrix,
        depth: usize,
        layout: &mut Layout,
    ) -> Result<(), Stopped> {
        self.bytes_left = self.bytes_left.checked_sub(content.len()).ok_or(Stopped::Work)?;
        let mut state = State::new(placed);
        let mut saved = Vec::new();
        for (count, operation) in Content::decode_iter(content).map_while(Result::ok).enumerate() {
            if count % 256 == 0 && Instant::now() >= self.deadline {
                return Err(Stopped::Time);
            }
            let operands = &operation.operands;
            match (operation.operator.as_str(), operands.as_slice()) {
                ("q", _) if saved.len() < STATES_MAX => saved.push(state.clone()),
                ("Q", _) => state = saved.pop().unwrap_or(state),
                ("Tf", [Object::Name(name), size]) => {
                    state.font = self.font(resources, name);
                    state.size = float(size);
                }
                ("Do", [Object::Name(name)]) if depth > 0 => {
                    self.form(name, resources, state.placed, depth - 1, layout)?;
                }
                _ => state.apply(&operation, layout),
            }
        }
        Ok(())
    }

    fn form(
        &mut self,
        name: &[u8],
        resources: &[&'a Dictionary],
        placed: Matrix,
        depth: usize,
        layout: &mut Layout,
    ) -> Result<(), Stopped> {
        let Some(form) = self
            .resource(resources, b"XObject", name)
            .and_then(|form| form.as_stream().ok())
        else {
            return Ok(());
        };
        if form
            .dict
            .get(b"Subtype")
            .and_then(Object::as_name)
            .is_ok_and(|kind| kind != b"Form")
        {
            return Ok(());
        }
        let content = match form.get_plain_content_with_limit(self.bytes_left) {
            Ok(content) => content,
            Err(lopdf::Error::Decompress(_)) => return Err(Stopped::Work),
            Err(_) => return Ok(()),
        };
        let own = form
            .dict
            .get_deref(b"Resources", self.document)
            .and_then(Object::as_dict);
        let matrix = form.dict.get_deref(b"Matrix", self.document).and_then(Object::as_array);
        let matrix = matrix.map_or(Matrix::IDENTITY, |numbers| Matrix::of(numbers));
        let placed = matrix.then(placed);
        match own {
            Ok(own) => self.run(&content, &[own], placed, depth, layout),
            Err(_) => self.run(&content, resources, placed, depth, layout),
        }
    }

    fn font(&mut self, resources: &[&'a Dictionary], name: &[u8]) -> Option<Rc<Font<'a>>> {
        let dictionary = self.resource(resources, b"Font", name)?.as_dict().ok()?;
        let key = std::ptr::from_ref(dictionary);
        if !self.fonts.contains_key(&key) {
            if self.fonts.len() >= FONTS_MAX {
                return None;
            }
            self.fonts.insert(key, Rc::new(Font::of(self.document, dictionary)));
        }
        self.fonts.get(&key).map(Rc::clone)
    }

    fn resource(&self, resources: &[&'a Dictionary], kind: &[u8], name: &[u8]) -> Option<&'a Object> {
        let document = self.document;
        resources.iter().find_map(|resources| {
            let of_kind = resources.get_deref(kind, document).ok()?.as_dict().ok()?;
            of_kind.get_deref(name, document).ok()
        })
    }
}

/// Of the graphics state, what places text.
#[derive(Clone)]
struct State<'a> {
    placed: Matrix,
    text: Matrix,
    line: Matrix,
    font: Option<Rc<Font<'a>>>,
    size: f64,
    letter_space: f64,
    word_space: f64,
    /// Horizontal scaling, 1 for none.
    stretch: f64,
    leading: f64,
    rise: f64,
}

impl State<'_> {
    fn new(placed: Matrix) -> Self {
        Self {
            placed,
            text: Matrix::IDENTITY,
            line: Matrix::IDENTITY,
            font: None,
            size: 0.0,
            letter_space: 0.0,
            word_space: 0.0,
            stretch: 1.0,
            leading: 0.0,
            rise: 0.0,
        }
    }

    fn apply(&mut self, operation: &Operation, layout: &mut Layout) {
        match (operation.operator.as_str(), operation.operands.as_slice()) {
            ("cm", numbers @ [_, _, _, _, _, _]) => self.placed = Matrix::of(numbers).then(self.placed),
            ("BT", _) => self.set_line(Matrix::IDENTITY),
            ("Tm", numbers @ [_, _, _, _, _, _]) => self.set_line(Matrix::of(numbers)),
            ("Td", [x, y]) => self.next_line(float(x), float(y)),
            ("TD", [x, y]) => {
                self.leading = -float(y);
                self.next_line(float(x), float(y));
            }
            ("T*", _) => self.next_line(0.0, -self.leading),
            ("Tc", [space]) => self.letter_space = float(space),
            ("Tw", [space]) => self.word_space = float(space),
            ("Tz", [percent]) => self.stretch = float(percent) / 100.0,
            ("TL", [leading]) => self.leading = float(leading),
            ("Ts", [rise]) => self.rise = float(rise),
            ("Tj", [Object::String(codes, _)]) => self.show(codes, layout),
            ("TJ", [Object::Array(items)]) => {
                for item in items {
                    match item {
                        Object::String(codes, _) => self.show(codes, layout),
                        number => self.forward(-float(number) / 1_000.0 * self.size),
                    }
                }
            }
            ("'", [Object::String(codes, _)]) => {
                self.next_line(0.0, -self.leading);
                self.show(codes, layout);
            }
            ("\"", [word, letter, Object::String(codes, _)]) => {
                self.word_space = float(word);
                self.letter_space = float(letter);
                self.next_line(0.0, -self.leading);
                self.show(codes, layout);
            }
            _ => {}
        }
    }

    fn set_line(&mut self, matrix: Matrix) {
        self.line = matrix;
        self.text = matrix;
    }

    fn next_line(&mut self, x: f64, y: f64) {
        self.set_line(Matrix::moved(x, y).then(self.line));
    }

    fn forward(&mut self, distance: f64) {
        self.text = Matrix::moved(distance * self.stretch, 0.0).then(self.text);
    }

    fn show(&mut self, codes: &[u8], layout: &mut Layout) {
        let Some(font) = self.font.clone() else {
            return;
        };
        let start = self.pen();
        let mut distance = 0.0;
        for (width, is_space) in font.advances(codes) {
            let word_space = if is_space { self.word_space } else { 0.0 };
            distance += width / 1_000.0 * self.size + self.letter_space + word_space;
        }
        self.forward(distance);
        let scale = self.text.then(self.placed).height();
        layout.show(&Shown {
            text: font.text(codes),
            start,
            end: self.pen(),
            size: self.size.abs() * scale,
        });
    }

    fn pen(&self) -> (f64, f64) {
        let full = Matrix::moved(0.0, self.rise).then(self.text).then(self.placed);
        (full.0[4], full.0[5])
    }
}

/// `[a b c d e f]` of ISO 32000-1, 8.3.3.
#[derive(Debug, Clone, Copy)]
struct Matrix([f64; 6]);

impl Matrix {
    const IDENTITY: Self = Self([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);

    fn of(numbers: &[Object]) -> Self {
        let mut matrix = Self::IDENTITY;
        for (place, number) in matrix.0.iter_mut().zip(numbers) {
            *place = float(number);
        }
        matrix
    }

    fn moved(x: f64, y: f64) -> Self {
        Self([1.0, 0.0, 0.0, 1.0, x, y])
    }

    /// This one first, then `next`.
    fn then(self, next: Self) -> Self {
        let ([a, b, c, d, e, f], [na, nb, nc, nd, ne, nf]) = (self.0, next.0);
        Self([
            a * na + b * nc,
            a * nb + b * nd,
            c * na + d * nc,
            c * nb + d * nd,
            e * na + f * nc + ne,
            e * nb + f * nd + nf,
        ])
    }

    /// What a height of 1 becomes.
    fn height(self) -> f64 {
        self.0[2].hypot(self.0[3])
    }
}

fn float(object: &Object) -> f64 {
    object.as_float().map_or(0.0, f64::from)
}
