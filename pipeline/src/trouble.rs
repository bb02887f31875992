//! What went wrong, classified by what a lane must do about it; and the patience with which it waits for a backend.

use crate::{config::Config, holdings, lake::LakeError};
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;
use tributary_backends::{log::LogError, said::Said, tables::TablesError, world::World};

/// A fault of a backend, by what the caller must do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The backend is away or full: wait and do the same again.
    #[error("{0}")]
    Retry(String),
    /// The partition has another owner: stop quietly, the work is in its hands.
    #[error("{0}")]
    Fenced(String),
    /// Nothing that this process can do helps: stop this task and tell the operator.
    #[error("{0}")]
    Halt(String),
}

impl From<LogError> for Trouble {
    fn from(error: LogError) -> Self {
        match &error {
            LogError::Unavailable(_) | LogError::Full(_) => Self::Retry(error.to_string()),
            LogError::Fenced { .. } => Self::Fenced(error.to_string()),
            LogError::Corrupt { .. } | LogError::Halted(_) => Self::Halt(error.to_string()),
        }
    }
}

impl From<TablesError> for Trouble {
    fn from(error: TablesError) -> Self {
        match &error {
            TablesError::Unavailable(_) | TablesError::Full(_) => Self::Retry(error.to_string()),
            TablesError::KeyLimit { .. } | TablesError::Halted(_) => Self::Halt(error.to_string()),
        }
    }
}

impl From<LakeError> for Trouble {
    fn from(error: LakeError) -> Self {
        match &error {
            LakeError::Unavailable(_) | LakeError::Conflict(_) => Self::Retry(error.to_string()),
            LakeError::Corrupt { .. } | LakeError::Halted(_) => Self::Halt(error.to_string()),
        }
    }
}

/// How long to wait between tries of one operation, and what was said of it lately: a store that fails each call once is
/// said once, however many lanes meet it.
#[derive(Debug, Clone)]
pub struct Patience {
    first: Duration,
    longest: Duration,
    seed: u64,
    said: Arc<Said>,
}

impl Patience {
    /// As configured, with jitter from `world`, so that lanes do not come back in step.
    pub fn new(config: &Config, world: &dyn World) -> Self {
        let mut seed = [0; 8];
        world.fill_random(&mut seed);
        let (first, longest, said) = (config.retry_first, config.retry_longest, Arc::default());
        Self { first, longest, seed: u64::from_le_bytes(seed), said }
    }

    /// How often `subject` was left unsaid since it was last said; `None` when it is to stay unsaid now too.
    pub fn may_say(&self, subject: &str) -> Option<u64> {
        self.said.may_say(subject)
    }

    /// Starts an operation, named for the log.
    pub fn start(&self, doing: &'static str) -> Wait {
        let delays = ExponentialBuilder::new()
            .with_min_delay(self.first)
            .with_max_delay(self.longest)
            .without_max_times()
            .with_jitter()
            .with_jitter_seed(self.seed)
            .build();
        Wait {
            doing,
            delays,
            longest: self.longest,
            faults: 0,
            said: self.said.clone(),
            mentioned: false,
            works: false,
        }
    }
}

/// The faults of one operation so far.
#[derive(Debug)]
pub struct Wait {
    doing: &'static str,
    delays: ExponentialBackoff,
    longest: Duration,
    faults: u64,
    said: Arc<Said>,
    mentioned: bool,
    works: bool,
}

impl Wait {
    /// It has worked.
    pub fn works(&mut self) {
        self.works = true;
    }

    /// Sleeps when trying again makes sense; logs the first fault, then at most one a minute of all operations that do the
    /// same, with how many there were; the others for whoever wants to see each.
    ///
    /// # Errors
    /// The trouble itself, when it cannot pass.
    pub async fn pause(&mut self, trouble: impl Into<Trouble>) -> Result<(), Trouble> {
        let trouble = trouble.into();
        if !matches!(trouble, Trouble::Retry(_)) {
            return Err(trouble);
        }
        self.faults += 1;
        let (faults, doing) = (self.faults, self.doing);
        match self.said.may_say(doing) {
            Some(unsaid) => {
                tracing::warn!(faults, unsaid, "{doing} failed, will try again until it works: {trouble}");
                self.mentioned = true;
            }
            None => tracing::debug!(faults, "{doing} failed once more: {trouble}"),
        }
        holdings::waits(Some(format!("{doing}: {trouble}")));
        sleep(self.delays.next().unwrap_or(self.longest)).await;
        Ok(())
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.faults > 0 {
            holdings::waits(None);
        }
        if self.mentioned && self.faults > 1 {
            let Self { doing, faults, works, .. } = *self;
            match works {
                true => tracing::info!(faults, "{doing} works again"),
                false => tracing::info!(faults, "{doing} was given up"),
            }
        }
    }
}

/// Evaluates a fallible future again and again until it works or cannot ever work. A macro, because a closure that
/// lends `&mut` state to the future it returns cannot be shown to be `Send`.
macro_rules! patiently {
    ($patience:expr, $doing:literal, $attempt:expr) => {{
        let mut wait = $patience.start($doing);
        loop {
            match $attempt.await {
                Ok(done) => {
                    wait.works();
                    break Ok(done);
                }
                Err(error) => {
                    if let Err(trouble) = wait.pause(error).await {
                        break Err(trouble);
                    }
                }
            }
        }
    }};
}
pub(crate) use patiently;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;
    use tributary_backends::world::SystemWorld;

    #[tokio::test]
    async fn what_can_pass_is_waited_out_and_the_rest_is_not() {
        let (retry_first, retry_longest) = (Duration::from_micros(100), Duration::from_millis(2));
        let config = Config { retry_first, retry_longest, ..Config::default() };
        let patience = Patience::new(&config, &SystemWorld);
        let mut tries = 0;
        let mut away = || {
            tries += 1;
            let tries = tries;
            async move { if tries < 30 { Err(LogError::Unavailable("away".into())) } else { Ok(tries) } }
        };
        let started = Instant::now();
        assert_eq!(patiently!(patience, "a test", away()), Ok(30));
        assert!(started.elapsed() > retry_longest * 20, "the waits grow to the longest");
        let halted: Result<(), _> = patiently!(patience, "a test", async { Err(TablesError::Halted("broken".into())) });
        assert_eq!(halted, Err(Trouble::Halt("broken".into())));
    }

    #[tokio::test]
    async fn what_fails_everywhere_is_said_once() {
        let config = Config { retry_first: Duration::from_micros(100), ..Config::default() };
        let patience = Patience::new(&config, &SystemWorld);
        let mut said = Vec::new();
        for doing in ["one thing", "one thing", "another", "one thing"] {
            let mut wait = patience.clone().start(doing);
            wait.pause(Trouble::Retry("away".into())).await.unwrap();
            said.push(wait.mentioned);
        }
        assert_eq!(said, [true, false, true, false]);
    }
}
