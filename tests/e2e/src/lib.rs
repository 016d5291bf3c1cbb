//! Nothing to link: the end-to-end tests live in `tests/it` and drive the `mesh` program from outside.
