//! From planned batches to acknowledged ones.

use super::{
    SendArgs, batch_limits,
    client::{Answer, Client, SendError},
    input::Input,
    journal::{Acknowledged, Journal},
    plan::Batch,
    progress::{INTERVAL, Progress, Summary},
    read::{ReadError, Reading},
    rejected::{self, Reason, Rejected, RejectedFiles},
    wait,
    window::Window,
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{sync::mpsc::Receiver, task::JoinSet, time::MissedTickBehavior};

/// Batches planned ahead of those on the way: enough that none of the connections idles.
const AHEAD: usize = 2;

type Delivered = (Batch, String, Result<Answer, SendError>);

/// One run.
pub struct Run {
    client: Client,
    journal: Journal,
    rejected: RejectedFiles,
    progress: Progress,
    summary: Summary,
    window: Window,
    on_the_way: JoinSet<Delivered>,
    /// Batches to wait for with `--wait`.
    accepted: BTreeSet<String>,
    names: Vec<String>,
    taken: Arc<AtomicU64>,
    parallel: usize,
    wait: bool,
    reading: Option<Reading>,
}

impl Run {
    /// Nothing is read or sent yet.
    pub fn new(args: &SendArgs, client: Client, journal: Journal, progress: Progress) -> Self {
        let inputs: Vec<Input> = args.files.iter().map(|path| Input::named(path)).collect();
        let taken = Arc::new(AtomicU64::new(0));
        let rejected = RejectedFiles::new(journal.rejected(), journal.marks());
        Self {
            client,
            rejected,
            journal,
            progress,
            summary: Summary::default(),
            window: Window::default(),
            on_the_way: JoinSet::new(),
            accepted: BTreeSet::new(),
            names: inputs.iter().map(Input::name).collect(),
            taken: Arc::clone(&taken),
            parallel: args.parallel,
            wait: args.wait,
            reading: Some(Reading { inputs, form: args.form.map(Into::into), limits: batch_limits(args), taken }),
        }
    }

    /// Sends everything, or as much as can be; the summary says what became of it.
    pub async fn send_everything(mut self) -> Summary {
        let mut outcome = self.send_all().await;
        if outcome.is_ok() && self.wait {
            outcome = self.wait_for_all().await;
        }
        self.progress.end();
        self.summary.seconds = self.progress.elapsed().as_secs_f64();
        if self.summary.rejected > 0 {
            self.summary.rejected_file = Some(self.rejected.records().to_owned());
            self.summary.errors_file = Some(self.rejected.errors().to_owned());
        }
        let path = self.journal.path().to_owned();
        match outcome {
            Ok(()) => self.summary.error = self.journal.finish().err().map(|error| error.to_string()),
            Err(error) => {
                let resume = format!("the same command goes on where this one stopped (state: {})", path.display());
                self.summary.error = Some(format!("{error:#}; {resume}"));
            }
        }
        self.summary
    }

    async fn send_all(&mut self) -> anyhow::Result<()> {
        let mut planned = self.start_reading();
        let mut reading = true;
        let mut failure: Option<anyhow::Error> = None;
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + INTERVAL, INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if failure.is_none() {
                self.start_ready();
            }
            let room = failure.is_none() && reading && self.window.len() < self.parallel * AHEAD;
            if !room && self.on_the_way.is_empty() {
                return failure.map_or(Ok(()), Err);
            }
            let step = tokio::select! {
                next = planned.recv(), if room => match next {
                    Some(next) => self.take_in(next),
                    None => {
                        reading = false;
                        Ok(())
                    }
                },
                Some(done) = self.on_the_way.join_next() => match done {
                    Ok(done) => self.settle(done),
                    Err(error) => Err(error.into()),
                },
                _ = ticks.tick() => {
                    self.progress.tick(&self.summary, self.taken.load(Ordering::Relaxed));
                    Ok(())
                }
            };
            self.progress.show(&self.summary, self.taken.load(Ordering::Relaxed));
            // What is on the way still comes to its end, so that the journal knows of it.
            failure = failure.or(step.err());
        }
    }

    fn start_reading(&mut self) -> Receiver<Result<Batch, ReadError>> {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        if let Some(reading) = self.reading.take() {
            tokio::task::spawn_blocking(move || reading.run(&sender));
        }
        receiver
    }

    /// A planned batch goes into the window, unless an earlier run has dealt with it.
    fn take_in(&mut self, planned: Result<Batch, ReadError>) -> anyhow::Result<()> {
        let batch = planned?;
        let hash = hash(&batch);
        if let Some(done) = self.journal.find(batch.number, &hash) {
            self.summary.already_sent += done.accepted + done.rejected;
            self.summary.accepted += done.accepted;
            self.summary.rejected += done.rejected;
            self.summary.batches += u64::from(done.batch_id.is_some());
            self.accepted.extend(done.batch_id.clone());
        } else if batch.slots.is_empty() {
            self.acknowledge(&batch, hash, None, 0, &[])?;
        } else {
            self.window.push(batch);
        }
        Ok(())
    }

    fn start_ready(&mut self) {
        while self.on_the_way.len() < self.parallel {
            let Some(batch) = self.window.start() else { return };
            let client = self.client.clone();
            let hash = hash(&batch);
            let key = self.journal.key(batch.number, &hash);
            self.on_the_way.spawn(async move {
                let answer = client.deliver(&batch, &key).await;
                (batch, hash, answer)
            });
        }
    }

    fn settle(&mut self, (batch, hash, answer): Delivered) -> anyhow::Result<()> {
        self.summary.bytes += batch.text.len() as u64;
        match answer? {
            Answer::Accepted(accepted) => {
                let (count, total) = (u64::from(accepted.rejected_count), u64::from(accepted.total_error_count));
                let rejected = rejected::of_batch(&batch, count, &accepted.errors, total);
                if rejected.len() as u64 != count {
                    let remark = "records were rejected by rules that this client does not know; see";
                    let missing = count.saturating_sub(rejected.len() as u64);
                    self.progress
                        .note(&format!("{missing} {remark} `tributary batches rejects {}`", accepted.batch_id));
                }
                let (id, accepted) = (Some(accepted.batch_id), u64::from(accepted.accepted_count));
                self.acknowledge(&batch, hash, id, accepted, &rejected)?;
            }
            Answer::AllRejected(errors, total) => {
                let rejected = rejected::of_batch(&batch, batch.slots.len() as u64, &errors, total);
                self.acknowledge(&batch, hash, None, 0, &rejected)?;
            }
            Answer::Refused(error) => {
                let reasons = vec![Reason { code: error.error, message: error.message }];
                let all = batch.slots.iter().map(|slot| Rejected {
                    text: Some(batch.record(slot)),
                    origin: slot.origin,
                    reasons: reasons.clone(),
                });
                self.acknowledge(&batch, hash, None, 0, &all.collect::<Vec<_>>())?;
            }
        }
        self.window.acknowledged(batch.number);
        Ok(())
    }

    /// Rejected records first, then the journal: killed in between, the batch is sent again and its records are
    /// written again in the same place.
    fn acknowledge(
        &mut self,
        batch: &Batch,
        hash: String,
        batch_id: Option<String>,
        accepted: u64,
        rejected: &[Rejected<'_>],
    ) -> anyhow::Result<()> {
        self.rejected.add(rejected, &self.names)?;
        self.rejected.add(&unsendable(batch), &self.names)?;
        let rejected = (batch.slots.len() + batch.unsendable.len()) as u64 - accepted;
        self.summary.accepted += accepted;
        self.summary.rejected += rejected;
        self.summary.batches += u64::from(batch_id.is_some());
        self.accepted.extend(batch_id.clone());
        let marks = self.rejected.marks();
        self.journal.note(Acknowledged { number: batch.number, hash, batch_id, accepted, rejected, marks })?;
        Ok(())
    }

    async fn wait_for_all(&mut self) -> anyhow::Result<()> {
        self.summary.complete = Some(0);
        let count = self.accepted.len() as u64;
        wait::until_complete(&self.client, &mut self.accepted).await?;
        self.summary.complete = Some(count);
        Ok(())
    }
}

fn unsendable(batch: &Batch) -> Vec<Rejected<'_>> {
    let one =
        |record: &'_ super::plan::Unsendable| vec![Reason { code: record.code.into(), message: record.reason.clone() }];
    let all = batch.unsendable.iter();
    all.map(|record| Rejected { text: record.text.as_deref(), origin: record.origin, reasons: one(record) }).collect()
}

/// Names a batch's content.
fn hash(batch: &Batch) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[u8::from(batch.multiline)]).update(&batch.text);
    for record in &batch.unsendable {
        hasher.update(&record.origin.at.to_le_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}
