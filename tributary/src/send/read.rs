//! The inputs, one after the other, through the splitter into the planner. Runs on a thread of its own.

use super::{
    input::Input,
    plan::{Batch, Limits, Origin, Planner, Unsendable},
    route::Route,
    split::{Form, SplitError, Splitter},
};
use std::sync::{Arc, atomic::AtomicU64};
use tokio::sync::mpsc::Sender;

/// The rest of an input cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {input}: {source}")]
pub struct ReadError {
    input: String,
    source: SplitError,
}

/// What there is to read, and how.
#[derive(Debug)]
pub struct Reading {
    /// In this order.
    pub inputs: Vec<Input>,
    /// None: look at each input.
    pub form: Option<Form>,
    /// What batches may hold.
    pub limits: Limits,
    /// Counts bytes before decompression.
    pub taken: Arc<AtomicU64>,
}

impl Reading {
    /// Reads everything and hands over each batch as it is sealed; ends early when nobody takes them any more. An input
    /// that cannot be read to its end is handed over as an error, after the batches of what could be read.
    pub fn run(self, batches: &Sender<Result<Batch, ReadError>>) {
        let mut planner = Planner::new(self.limits);
        for (number, input) in self.inputs.iter().enumerate() {
            match self.read(number, input, &mut planner, batches) {
                Ok(true) => {}
                Ok(false) => return,
                Err(source) => {
                    planner.flush();
                    if hand_over(&mut planner, batches) {
                        let _ = batches.blocking_send(Err(ReadError { input: input.name(), source }));
                    }
                    return;
                }
            }
        }
        planner.flush();
        hand_over(&mut planner, batches);
    }

    /// False when nobody takes batches any more.
    fn read(
        &self,
        number: usize,
        input: &Input,
        planner: &mut Planner,
        batches: &Sender<Result<Batch, ReadError>>,
    ) -> Result<bool, SplitError> {
        let form = self.form.or(input.named_ndjson().then_some(Form::Lines));
        let reader = input.open(Arc::clone(&self.taken))?;
        let mut splitter = Splitter::open(reader, form, self.limits.bytes)?;
        let mut text = Vec::new();
        while let Some(place) = splitter.next(&mut text)? {
            let origin = Origin { input: number, at: place.at };
            if place.cut {
                planner.refuse(Unsendable::too_large(origin, self.limits.bytes));
            } else {
                add(planner, splitter.form(), &text, origin);
            }
            if !hand_over(planner, batches) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A broken line is sent, so that the server counts it; a broken record of a document cannot be: without its line it
/// would break its neighbours.
fn add(planner: &mut Planner, form: Form, text: &[u8], origin: Origin) {
    let route = Route::of(text);
    let suspect = form == Form::Documents && route.identity.is_none();
    match suspect.then(|| serde_json::from_slice::<serde::de::IgnoredAny>(text)) {
        Some(Err(error)) => planner.refuse(Unsendable {
            text: Some(text.to_vec()),
            origin,
            code: "INVALID_JSON",
            reason: error.to_string(),
        }),
        _ => planner.add(text, route, origin),
    }
}

fn hand_over(planner: &mut Planner, batches: &Sender<Result<Batch, ReadError>>) -> bool {
    std::iter::from_fn(|| planner.take()).all(|batch| batches.blocking_send(Ok(batch)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inputs: &[(&str, &str)]) -> (Vec<Batch>, Option<String>) {
        let dir = tempfile::tempdir().unwrap();
        let inputs = inputs.iter().map(|(name, text)| {
            std::fs::write(dir.path().join(name), text).unwrap();
            Input::File(dir.path().join(name))
        });
        let reading =
            Reading { inputs: inputs.collect(), form: None, limits: Limits::default(), taken: Arc::default() };
        let (sender, mut receiver) = tokio::sync::mpsc::channel(100);
        reading.run(&sender);
        drop(sender);
        let (mut batches, mut error) = (Vec::new(), None);
        while let Some(next) = receiver.blocking_recv() {
            match next {
                Ok(batch) => batches.push(batch),
                Err(failed) => error = Some(failed.to_string()),
            }
        }
        (batches, error)
    }

    #[test]
    fn broken_lines_are_sent_and_broken_elements_are_not() {
        let (batches, error) = read(&[("a.ndjson", "{\"x\":\n{\"y\":2}\n"), ("b.json", "[{\"x\":tru},{\"y\":2}]")]);
        assert_eq!(error, None);
        let sent: Vec<Origin> = batches.iter().flat_map(|batch| &batch.slots).map(|slot| slot.origin).collect();
        assert_eq!(sent, [(0, 1), (0, 2), (1, 2)].map(|(input, at)| Origin { input, at }));
        let refused: Vec<&Unsendable> = batches.iter().flat_map(|batch| &batch.unsendable).collect();
        assert_eq!(refused.len(), 1);
        assert_eq!((refused[0].origin, refused[0].code), (Origin { input: 1, at: 1 }, "INVALID_JSON"));
    }

    #[test]
    fn what_comes_before_an_unreadable_place_is_sent() {
        let (batches, error) = read(&[("a.json", "[{\"y\":1},{\"y\":2}"), ("b.json", "[{\"y\":3}]")]);
        assert_eq!(batches.iter().map(|batch| batch.slots.len()).sum::<usize>(), 2);
        assert!(error.unwrap().ends_with("a.json: record 2: the array is not closed"));
    }
}
