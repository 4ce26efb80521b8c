//! Adapters against what they adapt to, as far as that needs no fleet (`cli/tests/it/run` has one).

mod gpu;
