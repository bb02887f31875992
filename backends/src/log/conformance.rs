//! What every `RecordLog` must do, as one suite that takes a factory of logs.
