//! Group commit: one thread makes all changes of the state, one after the other, and persists many with one fsync.
//!
//! One thread is also what makes "look, then write" atomic: no other change comes between. A change is answered only
//! after the fsync that covers it, also when it changed nothing, for what it saw may be a change of the same group.

use super::{
    failure::{classify, stopped},
    space::Space,
    state::State,
};
use crate::{crash, tables::TablesError};
use std::{sync::Arc, thread::JoinHandle};
use tokio::sync::{mpsc, oneshot};

/// Changes waiting for the thread; more wait outside.
const QUEUE: usize = 1_024;
/// Changes that one fsync covers at most, so that nobody waits long for the first of them.
const GROUP: usize = 256;

type Answer = Box<dyn FnOnce(Result<(), TablesError>) + Send>;
/// Runs on the state, or is told why it may not.
type Change = Box<dyn FnOnce(Result<&State, TablesError>) -> Answer + Send>;

/// The thread and the way to it.
#[derive(Debug)]
pub(super) struct Committer {
    queue: Option<mpsc::Sender<Change>>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    pub(super) fn start(state: Arc<State>, space: Space) -> Result<Self, TablesError> {
        let (queue, changes) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("tables-commit".to_owned())
            .spawn(move || run(&state, &space, changes))
            .map_err(|error| TablesError::Unavailable(format!("cannot start a thread: {error}")))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Makes a change and returns once it is durable. Dropping the future does not take the change back.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&State) -> Result<T, TablesError> + Send + 'static,
    ) -> Result<T, TablesError> {
        let (answer, answered) = oneshot::channel();
        let change: Change = Box::new(move |state| {
            let outcome = state.and_then(change);
            Box::new(move |persisted| {
                // Nobody waits any more when the caller's future was dropped.
                let _ = answer.send(persisted.and(outcome));
            })
        });
        let Some(queue) = &self.queue else { return Err(stopped("committer")) };
        queue.send(change).await.map_err(|_| stopped("committer"))?;
        answered.await.map_err(|_| stopped("committer"))?
    }
}

impl Drop for Committer {
    /// Lets the thread finish what is queued, and waits for it: the files are closed then.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the tables' committer died");
        }
    }
}

fn run(state: &State, space: &Space, mut changes: mpsc::Receiver<Change>) {
    let mut group = Vec::with_capacity(GROUP);
    while let Some(first) = changes.blocking_recv() {
        group.push(first);
        while group.len() < GROUP
            && let Ok(next) = changes.try_recv()
        {
            group.push(next);
        }
        commit(state, space, &mut group);
    }
}

fn commit(state: &State, space: &Space, group: &mut Vec<Change>) {
    // Without room no change is even begun: the state stays sound, and writes go on once there is room.
    let answers: Vec<Answer> = group.drain(..).map(|change| change(space.check().map(|()| state))).collect();
    let persisted = state.persist();
    crash::point("tables.after_write");
    for answer in answers {
        answer(match &persisted {
            Ok(()) => Ok(()),
            Err(error) => Err(classify(error)),
        });
    }
}
