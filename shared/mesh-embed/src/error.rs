//! What can be wrong with a model's folder, or with a text.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file is there, and is not what this crate computes.
    #[error("{} is of no model that can be used here: {reason}", path.display())]
    Unfit { path: PathBuf, reason: String },
    /// The model gave something that is no vector; its weights are damaged.
    #[error("the model gave no finite vector: its weights are damaged, fetch them again")]
    NotFinite,
}

impl ModelError {
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn unfit(path: &Path, reason: impl Into<String>) -> Self {
        Self::Unfit {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}
