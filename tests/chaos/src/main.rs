//! The program `chaos`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    chaos::main()
}
