//! Reads `model.safetensors` into one piece of anonymous memory, which goes back to the system when it is dropped; an
//! allocator would keep its 90 MB for later.
//!
//! The format: eight bytes with the length of a JSON object (little endian), the object (name → type, shape, offsets),
//! then the numbers. <https://github.com/huggingface/safetensors#format>

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use memmap2::MmapMut;
use ndarray::{ArrayView1, ArrayView2};
use serde::Deserialize;
use serde_json::Value;
use zerocopy::FromBytes;

use crate::ModelError;

/// The format's own bound on its header.
const HEADER_BYTES_MAX: u64 = 100_000_000;
/// Bytes of a number.
const NUMBER: usize = size_of::<f32>();

/// All numbers of a model, single precision.
#[derive(Debug)]
pub(crate) struct Weights {
    /// Single precision in this machine's order of bytes.
    memory: MmapMut,
    places: HashMap<String, Place>,
}

/// Where a matrix or a row of numbers stands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    start: usize,
    shape: Vec<usize>,
}

/// A matrix of the model, by its place among the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Matrix {
    start: usize,
    rows: usize,
    columns: usize,
}

#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl Tensor {
    /// Checked against the file when the header is read.
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * NUMBER
    }
}

impl Weights {
    /// Reads what `is_wanted`.
    pub(crate) fn read(path: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<Self, ModelError> {
        let failed = || ModelError::read(path);
        let file = File::open(path).map_err(failed())?;
        let length = file.metadata().map_err(failed())?.len();
        let mut file = BufReader::new(file);
        let mut eight = [0; 8];
        file.read_exact(&mut eight).map_err(failed())?;
        let header_bytes = u64::from_le_bytes(eight);
        if header_bytes > HEADER_BYTES_MAX.min(length.saturating_sub(8)) {
            return Err(ModelError::unfit(path, "its header is longer than the file"));
        }
        let mut header = Vec::new();
        let header_end = 8 + header_bytes;
        (&mut file)
            .take(header_bytes)
            .read_to_end(&mut header)
            .map_err(failed())?;
        let tensors = tensors(path, &header, length - header_end, is_wanted)?;
        let total: usize = tensors.iter().map(|(_, tensor)| tensor.bytes()).sum();
        // Memory of no bytes cannot be asked for.
        let mut memory = MmapMut::map_anon(total.max(1)).map_err(failed())?;
        let (mut places, mut start) = (HashMap::new(), 0);
        for (name, tensor) in tensors {
            file.seek(SeekFrom::Start(header_end + tensor.data_offsets.0))
                .map_err(failed())?;
            let bytes = &mut memory[start..start + tensor.bytes()];
            file.read_exact(bytes).map_err(failed())?;
            if cfg!(target_endian = "big") {
                bytes
                    .as_chunks_mut::<NUMBER>()
                    .0
                    .iter_mut()
                    .for_each(|number| number.reverse());
            }
            start += tensor.bytes();
            let first = (start - tensor.bytes()) / NUMBER;
            places.insert(
                name,
                Place {
                    start: first,
                    shape: tensor.shape,
                },
            );
        }
        Ok(Self { memory, places })
    }

    /// The matrix of that name, if it is there and has that shape.
    pub(crate) fn find(&self, path: &Path, name: &str, rows: usize, columns: usize) -> Result<Matrix, ModelError> {
        let place = self
            .places
            .get(name)
            .ok_or_else(|| ModelError::unfit(path, format!("it has no `{name}`")))?;
        let is_row = rows == 1 && place.shape == [columns];
        if !is_row && place.shape != [rows, columns] {
            let shape = &place.shape;
            return Err(ModelError::unfit(
                path,
                format!("`{name}` is {shape:?}, not [{rows}, {columns}]"),
            ));
        }
        let start = place.start;
        Ok(Matrix { start, rows, columns })
    }

    pub(crate) fn matrix(&self, matrix: Matrix) -> ArrayView2<'_, f32> {
        let numbers = &self.numbers()[matrix.start..matrix.start + matrix.rows * matrix.columns];
        ArrayView2::from_shape((matrix.rows, matrix.columns), numbers).expect("`find` compared the shapes")
    }

    pub(crate) fn row(&self, matrix: Matrix) -> ArrayView1<'_, f32> {
        ArrayView1::from(&self.numbers()[matrix.start..matrix.start + matrix.columns])
    }

    fn numbers(&self) -> &[f32] {
        let whole = self.memory.len() / NUMBER * NUMBER;
        FromBytes::ref_from_bytes(&self.memory[..whole]).expect("a page begins where a number may")
    }
}

/// What the header tells of, in the file's order, each checked against the file's length.
fn tensors(
    path: &Path,
    header: &[u8],
    data_bytes: u64,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<(String, Tensor)>, ModelError> {
    let unfit = |reason: String| ModelError::unfit(path, reason);
    let entries: HashMap<String, Value> =
        serde_json::from_slice(header).map_err(|error| unfit(format!("its header: {error}")))?;
    let mut all = Vec::new();
    for (name, entry) in entries {
        if name == "__metadata__" || !is_wanted(&name) {
            continue;
        }
        let tensor: Tensor = serde_json::from_value(entry).map_err(|error| unfit(format!("`{name}`: {error}")))?;
        if tensor.dtype != "F32" {
            return Err(unfit(format!("`{name}` is of {}, only F32 is read", tensor.dtype)));
        }
        let count = tensor
            .shape
            .iter()
            .try_fold(4_u64, |bytes, length| bytes.checked_mul(u64::try_from(*length).ok()?));
        let (start, end) = tensor.data_offsets;
        if end > data_bytes || start > end || count != Some(end - start) {
            return Err(unfit(format!(
                "`{name}` does not fit into the file: it is cut off or damaged"
            )));
        }
        all.push((name, tensor));
    }
    all.sort_by_key(|(_, tensor)| tensor.data_offsets.0);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn file(header: &str, numbers: &[f32]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let mut file = File::create(&path).unwrap();
        file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
        file.write_all(header.as_bytes()).unwrap();
        for number in numbers {
            file.write_all(&number.to_le_bytes()).unwrap();
        }
        (folder, path)
    }

    fn read(header: &str, numbers: &[f32]) -> Result<Weights, ModelError> {
        let (_folder, path) = file(header, numbers);
        Weights::read(&path, |name| name != "unused")
    }

    const HEADER: &str = r#"{"__metadata__":{"format":"pt"},
        "unused":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},
        "bias":{"dtype":"F32","shape":[2],"data_offsets":[32,40]},
        "weight":{"dtype":"F32","shape":[3,2],"data_offsets":[8,32]}}"#;
    const NUMBERS: [f32; 10] = [9.0, 9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];

    #[test]
    fn numbers_are_found_by_name_and_shape() {
        let weights = read(HEADER, &NUMBERS).unwrap();
        let path = Path::new("m");
        let matrix = weights.find(path, "weight", 3, 2).unwrap();
        assert_eq!(
            weights.matrix(matrix),
            ndarray::array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
        );
        let bias = weights.find(path, "bias", 1, 2).unwrap();
        assert_eq!(weights.row(bias), ndarray::array![7.0, 8.0]);
        assert!(
            weights
                .find(path, "weight", 2, 3)
                .unwrap_err()
                .to_string()
                .contains("[3, 2]")
        );
        assert!(weights.find(path, "unused", 1, 1).is_err());
    }

    #[test]
    fn a_damaged_file_is_an_error_and_no_panic() {
        let cut = read(HEADER, &NUMBERS[..9]).unwrap_err().to_string();
        assert!(cut.contains("cut off"), "{cut}");
        let huge = r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,4]}}"#;
        assert!(read(huge, &NUMBERS).is_err());
        let half = HEADER.replace("F32", "F16");
        assert!(read(&half, &NUMBERS).unwrap_err().to_string().contains("F16"));
        assert!(read("{", &[]).is_err());
        let (folder, path) = file("{}", &[]);
        fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
        assert!(Weights::read(&path, |_| true).is_err());
        fs::write(&path, [1, 2]).unwrap();
        assert!(matches!(Weights::read(&path, |_| true), Err(ModelError::Read { .. })));
        drop(folder);
    }
}
