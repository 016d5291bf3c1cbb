//! Cuts text into the word pieces of the model's vocabulary.

use std::path::{Path, PathBuf};

use tokenizers::{Tokenizer, TruncationParams};

use crate::{ModelError, Settings};

pub(crate) struct Words {
    path: PathBuf,
    tokenizer: Tokenizer,
}

impl Words {
    pub(crate) fn read(folder: &Path, settings: &Settings) -> Result<Self, ModelError> {
        let path = folder.join("tokenizer.json");
        let unfit = |error: tokenizers::Error| ModelError::unfit(&path, error.to_string());
        if !path.is_file() {
            return Err(ModelError::read(&path)(std::io::ErrorKind::NotFound.into()));
        }
        let mut tokenizer = Tokenizer::from_file(&path).map_err(unfit)?;
        // The file's own bound of 128 and its padding are for training; sentence-transformers sets both anew.
        let truncation = TruncationParams {
            max_length: settings.tokens_max,
            ..TruncationParams::default()
        };
        tokenizer.with_truncation(Some(truncation)).map_err(unfit)?;
        tokenizer.with_padding(None);
        if tokenizer.get_vocab_size(true) > settings.vocabulary {
            return Err(ModelError::unfit(&path, "it has more words than the model"));
        }
        Ok(Self { path, tokenizer })
    }

    /// Numbers of the word pieces between the marks of start and end, at most `tokens_max`.
    pub(crate) fn cut(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoding = self.tokenizer.encode_fast(text, true);
        // A vocabulary with a mark for unknown words takes every text; another one may not.
        let encoding = encoding.map_err(|error| ModelError::unfit(&self.path, error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }
}
