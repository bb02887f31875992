//! What every `Tables` must do, as one suite that takes a factory.
