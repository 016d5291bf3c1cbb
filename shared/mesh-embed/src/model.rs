//! The encoder: embeddings, layers of attention and two products, the mean over the words (Devlin, Chang, Lee,
//! Toutanova, "BERT", 2019; Reimers, Gurevych, "Sentence-BERT", 2019).

use std::ops::Range;
use std::path::Path;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice};

use crate::math::{gelu, layer_norm, softmax};
use crate::weights::{Matrix, Weights};
use crate::words::Words;
use crate::{ModelError, Settings};

/// Tokens that are computed at once: enough to keep the processor busy, and 20 MB of numbers between the layers.
const TOKENS_AT_ONCE: usize = 1_024;

/// A model in memory; dropping it frees it. About 90 MB for all-MiniLM-L6-v2.
pub struct SentenceModel {
    settings: Settings,
    words: Words,
    weights: Weights,
    embeddings: Embeddings,
    layers: Vec<Layer>,
}

struct Embeddings {
    words: Matrix,
    positions: Matrix,
    types: Matrix,
    norm: Norm,
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attended: Linear,
    attended_norm: Norm,
    up: Linear,
    down: Linear,
    norm: Norm,
}

/// `x · weightᵀ + bias`.
#[derive(Clone, Copy)]
struct Linear {
    weight: Matrix,
    bias: Matrix,
}

#[derive(Clone, Copy)]
struct Norm {
    weight: Matrix,
    bias: Matrix,
}

impl std::fmt::Debug for SentenceModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SentenceModel")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Finds matrices by the names that the published models give them.
struct Finder<'a> {
    path: &'a Path,
    weights: &'a Weights,
    settings: &'a Settings,
}

impl Finder<'_> {
    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix, ModelError> {
        self.weights.find(self.path, name, rows, columns)
    }

    fn linear(&self, name: &str, rows: usize, columns: usize) -> Result<Linear, ModelError> {
        Ok(Linear {
            weight: self.matrix(&format!("{name}.weight"), rows, columns)?,
            bias: self.matrix(&format!("{name}.bias"), 1, rows)?,
        })
    }

    fn norm(&self, name: &str) -> Result<Norm, ModelError> {
        let width = self.settings.dimensions;
        Ok(Norm {
            weight: self.matrix(&format!("{name}.weight"), 1, width)?,
            bias: self.matrix(&format!("{name}.bias"), 1, width)?,
        })
    }

    fn embeddings(&self) -> Result<Embeddings, ModelError> {
        let Settings {
            dimensions,
            vocabulary,
            positions,
            ..
        } = *self.settings;
        Ok(Embeddings {
            words: self.matrix("embeddings.word_embeddings.weight", vocabulary, dimensions)?,
            positions: self.matrix("embeddings.position_embeddings.weight", positions, dimensions)?,
            types: self.matrix("embeddings.token_type_embeddings.weight", 2, dimensions)?,
            norm: self.norm("embeddings.LayerNorm")?,
        })
    }

    fn layer(&self, number: usize) -> Result<Layer, ModelError> {
        let name = |part: &str| format!("encoder.layer.{number}.{part}");
        let Settings {
            dimensions: width,
            inner,
            ..
        } = *self.settings;
        Ok(Layer {
            query: self.linear(&name("attention.self.query"), width, width)?,
            key: self.linear(&name("attention.self.key"), width, width)?,
            value: self.linear(&name("attention.self.value"), width, width)?,
            attended: self.linear(&name("attention.output.dense"), width, width)?,
            attended_norm: self.norm(&name("attention.output.LayerNorm"))?,
            up: self.linear(&name("intermediate.dense"), inner, width)?,
            down: self.linear(&name("output.dense"), width, inner)?,
            norm: self.norm(&name("output.LayerNorm"))?,
        })
    }
}

impl SentenceModel {
    /// Loads the model in that folder: `config.json`, `tokenizer.json`, `model.safetensors`. Takes about 0.2 s.
    ///
    /// # Errors
    /// [`ModelError::Read`] when a file is missing, [`ModelError::Unfit`] when it is damaged or of another kind of model.
    pub fn load(folder: &Path) -> Result<Self, ModelError> {
        let settings = Settings::read(folder)?;
        let words = Words::read(folder, &settings)?;
        let path = folder.join("model.safetensors");
        let weights = Weights::read(&path, |name| {
            let is_used = name.starts_with("embeddings.") || name.starts_with("encoder.");
            is_used && name != "embeddings.position_ids"
        })?;
        let finder = Finder {
            path: &path,
            weights: &weights,
            settings: &settings,
        };
        let embeddings = finder.embeddings()?;
        let layers = (0..settings.layers)
            .map(|number| finder.layer(number))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            settings,
            words,
            weights,
            embeddings,
            layers,
        })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many word pieces of the text are looked at, its two marks included.
    ///
    /// # Errors
    /// When the model's vocabulary cannot take the text.
    pub fn count_tokens(&self, text: &str) -> Result<usize, ModelError> {
        self.words.cut(text).map(|pieces| pieces.len())
    }

    /// The vector of each text, in order, of length 1. What comes after `tokens_max` word pieces is not looked at.
    ///
    /// # Errors
    /// [`ModelError::NotFinite`] when the weights are damaged.
    pub fn embed<T: AsRef<str>>(&self, texts: &[T]) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut vectors = Vec::with_capacity(texts.len());
        let mut batch = Batch::default();
        for text in texts {
            let pieces = self.words.cut(text.as_ref())?;
            if !batch.pieces.is_empty() && batch.pieces.len() + pieces.len() > TOKENS_AT_ONCE {
                self.encode(&std::mem::take(&mut batch), &mut vectors)?;
            }
            batch.push(&pieces);
        }
        self.encode(&batch, &mut vectors)?;
        Ok(vectors)
    }

    fn encode(&self, batch: &Batch, vectors: &mut Vec<Vec<f32>>) -> Result<(), ModelError> {
        let mut x = self.embedded(batch);
        for layer in &self.layers {
            let attended = self.attend(layer, &x, &batch.texts);
            x += &self.product(layer.attended, &attended);
            self.normalize(layer.attended_norm, &mut x);
            let mut inner = self.product(layer.up, &x);
            gelu(inner.as_slice_mut().expect("a new matrix is contiguous"));
            x += &self.product(layer.down, &inner);
            self.normalize(layer.norm, &mut x);
        }
        for text in &batch.texts {
            vectors.push(mean(cut(x.view(), text, 0..self.settings.dimensions))?);
        }
        Ok(())
    }

    /// What each token starts from: its word, its place in its text, and the kind of text.
    fn embedded(&self, batch: &Batch) -> Array2<f32> {
        let embeddings = &self.embeddings;
        let words = self.weights.matrix(embeddings.words);
        let positions = self.weights.matrix(embeddings.positions);
        let kind = self.weights.matrix(embeddings.types);
        let mut x = Array2::zeros((batch.pieces.len(), self.settings.dimensions));
        for text in &batch.texts {
            for (position, row) in text.clone().enumerate() {
                let mut to = x.row_mut(row);
                to += &words.row(batch.pieces[row] as usize);
                to += &positions.row(position);
                to += &kind.row(0);
            }
        }
        self.normalize(embeddings.norm, &mut x);
        x
    }

    /// Scaled dot-product attention of each text by itself, head by head.
    fn attend(&self, layer: &Layer, x: &Array2<f32>, texts: &[Range<usize>]) -> Array2<f32> {
        let [queries, keys, values] = [layer.query, layer.key, layer.value].map(|linear| self.product(linear, x));
        let width = self.settings.dimensions / self.settings.heads;
        let scale = 1.0 / (width as f32).sqrt();
        let mut attended = Array2::zeros(x.raw_dim());
        let longest = texts.iter().map(Range::len).max().unwrap_or(0);
        let mut scores = Array2::zeros((longest, longest));
        for text in texts {
            let length = text.len();
            for head in 0..self.settings.heads {
                let columns = head * width..(head + 1) * width;
                let [query, key, value] = [&queries, &keys, &values].map(|x| cut(x.view(), text, columns.clone()));
                let mut scores = cut_mut(scores.view_mut(), &(0..length), 0..length);
                general_mat_mul(1.0, &query, &key.t(), 0.0, &mut scores);
                softmax(scores.view_mut(), scale);
                general_mat_mul(
                    1.0,
                    &scores,
                    &value,
                    0.0,
                    &mut cut_mut(attended.view_mut(), text, columns),
                );
            }
        }
        attended
    }

    fn product(&self, linear: Linear, x: &Array2<f32>) -> Array2<f32> {
        let weight = self.weights.matrix(linear.weight);
        let bias = self.weights.row(linear.bias);
        let shape = (x.nrows(), weight.nrows());
        let mut y = bias.broadcast(shape).expect("a row fits below itself").to_owned();
        general_mat_mul(1.0, x, &weight.t(), 1.0, &mut y);
        y
    }

    fn normalize(&self, norm: Norm, x: &mut Array2<f32>) {
        let (weight, bias) = (self.weights.row(norm.weight), self.weights.row(norm.bias));
        layer_norm(x.view_mut(), weight, bias, self.settings.epsilon);
    }
}

/// Word pieces of several texts, one after the other, and where each text's are.
#[derive(Default)]
struct Batch {
    pieces: Vec<u32>,
    texts: Vec<Range<usize>>,
}

impl Batch {
    fn push(&mut self, pieces: &[u32]) {
        let start = self.pieces.len();
        self.pieces.extend_from_slice(pieces);
        self.texts.push(start..self.pieces.len());
    }
}

fn cut<'a>(mut matrix: ArrayView2<'a, f32>, rows: &Range<usize>, columns: Range<usize>) -> ArrayView2<'a, f32> {
    matrix.slice_axis_inplace(Axis(0), Slice::from(rows.clone()));
    matrix.slice_axis_inplace(Axis(1), Slice::from(columns));
    matrix
}

fn cut_mut<'a>(
    mut matrix: ArrayViewMut2<'a, f32>,
    rows: &Range<usize>,
    columns: Range<usize>,
) -> ArrayViewMut2<'a, f32> {
    matrix.slice_axis_inplace(Axis(0), Slice::from(rows.clone()));
    matrix.slice_axis_inplace(Axis(1), Slice::from(columns));
    matrix
}

/// The mean of a text's tokens, brought to length 1.
fn mean(tokens: ArrayView2<'_, f32>) -> Result<Vec<f32>, ModelError> {
    // The number of tokens only stretches the sum.
    let sum = tokens.sum_axis(Axis(0));
    let length = sum.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() || length < f64::from(f32::MIN_POSITIVE) {
        return Err(ModelError::NotFinite);
    }
    Ok(sum.iter().map(|x| (f64::from(*x) / length) as f32).collect())
}
