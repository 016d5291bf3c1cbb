//! inference: being written.
