//! The small files of a model's folder: sizes, and what is done before and after the encoder.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::ModelError;

/// Sizes of a model; read without its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Numbers in a vector.
    pub dimensions: usize,
    /// Word pieces that are looked at, with the two marks of start and end; what comes after them is not.
    pub tokens_max: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) inner: usize,
    pub(crate) vocabulary: usize,
    pub(crate) positions: usize,
    pub(crate) epsilon: f32,
}

/// `config.json`.
#[derive(Deserialize)]
struct Encoder {
    model_type: String,
    hidden_act: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    max_position_embeddings: usize,
    vocab_size: usize,
    layer_norm_eps: f32,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

/// `sentence_bert_config.json`.
#[derive(Deserialize)]
struct Input {
    max_seq_length: usize,
}

/// `1_Pooling/config.json`.
#[derive(Deserialize)]
struct Pooling {
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
}

impl Settings {
    /// Reads the settings of the model in that folder.
    ///
    /// # Errors
    /// [`ModelError::Read`] when a file is missing, [`ModelError::Unfit`] when it is a model of another kind.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let encoder: Encoder = json(&path)?.ok_or_else(|| ModelError::read(&path)(ErrorKind::NotFound.into()))?;
        let unfit = |reason: String| Err(ModelError::unfit(&path, reason));
        if encoder.model_type != "bert" {
            return unfit(format!("its type is `{}`, not `bert`", encoder.model_type));
        }
        if encoder.hidden_act != "gelu" {
            return unfit(format!("its activation is `{}`, not `gelu`", encoder.hidden_act));
        }
        let positions = encoder.position_embedding_type.as_deref().unwrap_or("absolute");
        if positions != "absolute" {
            return unfit(format!("its positions are `{positions}`, not `absolute`"));
        }
        let heads = encoder.num_attention_heads;
        if heads == 0 || encoder.hidden_size == 0 || !encoder.hidden_size.is_multiple_of(heads) {
            return unfit(format!(
                "{} numbers do not fall into {heads} heads",
                encoder.hidden_size
            ));
        }
        let tokens_max = Self::tokens_max(folder)?.unwrap_or(encoder.max_position_embeddings);
        if !(3..=encoder.max_position_embeddings).contains(&tokens_max) {
            let positions = encoder.max_position_embeddings;
            return unfit(format!("it has {positions} positions for {tokens_max} word pieces"));
        }
        Self::check_pooling(folder)?;
        Ok(Self {
            dimensions: encoder.hidden_size,
            tokens_max,
            layers: encoder.num_hidden_layers,
            heads,
            inner: encoder.intermediate_size,
            vocabulary: encoder.vocab_size,
            positions: encoder.max_position_embeddings,
            epsilon: encoder.layer_norm_eps,
        })
    }

    fn tokens_max(folder: &Path) -> Result<Option<usize>, ModelError> {
        let input: Option<Input> = json(&folder.join("sentence_bert_config.json"))?;
        Ok(input.map(|input| input.max_seq_length))
    }

    fn check_pooling(folder: &Path) -> Result<(), ModelError> {
        let path = folder.join("1_Pooling/config.json");
        let Some(pooling) = json::<Pooling>(&path)? else {
            return Ok(());
        };
        let others = [
            pooling.pooling_mode_cls_token,
            pooling.pooling_mode_max_tokens,
            pooling.pooling_mode_mean_sqrt_len_tokens,
        ];
        if !pooling.pooling_mode_mean_tokens || others.contains(&true) {
            return Err(ModelError::unfit(&path, "it pools by something else than the mean"));
        }
        Ok(())
    }
}

/// `None`: there is no such file.
fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ModelError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| ModelError::unfit(path, error.to_string())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ModelError::read(path)(error)),
    }
}
