//! The program `chaos`: see the library.

fn main() {}
