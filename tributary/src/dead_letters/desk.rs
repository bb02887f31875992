//! The one implementation of every command about dead letters, wherever it runs.

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use tributary_backends::{log::RecordLog, tables::Tables, world::World};
use tributary_pipeline::dead_letters::{Action, Deed, Fate, Handling, Letter, LetterId, fetch, handle, read};

/// Of the bytes of a letter so many are shown.
const SHOWN: usize = 64 << 10;

/// Which letters are meant; everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    pub ids: Vec<LetterId>,
    pub workspace: Option<String>,
    pub matching: Option<String>,
    pub topic: Option<String>,
    /// Microseconds since the Unix epoch, like `until`.
    pub since: Option<i64>,
    pub until: Option<i64>,
    /// Also those that something was done about.
    pub handled: bool,
}

/// Lists letters, or does something about them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub select: Selection,
    pub handling: Option<Handling>,
}

/// A letter as commands show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LetterView {
    pub id: LetterId,
    pub stage: String,
    pub reason: String,
    /// Milliseconds since the Unix epoch.
    pub at: i64,
    pub bytes: usize,
    pub workspace: Option<String>,
    pub batch_id: Option<String>,
    pub record_index: Option<u32>,
    /// `open`, `replayed` or `discarded`.
    pub state: String,
    /// Why it would become a dead letter again; nothing: it can be replayed.
    pub fault: Option<String>,
    pub actions: Vec<ActionView>,
    /// The first of its bytes in hexadecimal digits, where one letter was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub payload: Option<String>,
    /// What became of a command about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outcome: Option<Outcome>,
}

/// What was done about a letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionView {
    pub action: Deed,
    pub by: String,
    pub reason: String,
    /// Milliseconds since the Unix epoch.
    pub at: i64,
    /// The offset that the replayed bytes have now.
    pub offset: Option<i64>,
}

/// What became of a command about a letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is", content = "why")]
pub enum Outcome {
    Done,
    Already,
    Would,
    Refused(String),
}

impl LetterView {
    fn of(letter: &Letter) -> Self {
        let contents = &letter.contents;
        Self {
            id: letter.id.clone(),
            stage: letter.stage.clone(),
            reason: letter.reason.clone(),
            at: letter.at.div_euclid(1_000),
            bytes: letter.bytes,
            workspace: contents.workspace.clone(),
            batch_id: contents.batch_id.clone(),
            record_index: contents.record_index,
            state: letter.actions.last().map_or("open", |action| action.deed.name()).to_owned(),
            fault: contents.fault.clone(),
            actions: letter.actions.iter().map(ActionView::of).collect(),
            payload: None,
            outcome: None,
        }
    }

    fn after(letter: &Letter, fate: Fate) -> Self {
        let mut view = Self::of(letter);
        view.outcome = Some(match fate {
            Fate::Done(action) => {
                action.deed.name().clone_into(&mut view.state);
                view.actions.push(ActionView::of(&action));
                Outcome::Done
            }
            Fate::Already(_) => Outcome::Already,
            Fate::Would => Outcome::Would,
            Fate::Refused(why) => Outcome::Refused(why),
        });
        view
    }

    /// Whether a command was not done.
    pub fn is_refused(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Refused(_)))
    }
}

impl ActionView {
    fn of(action: &Action) -> Self {
        let Action { deed, by, reason, at, offset } = action.clone();
        Self { action: deed, by, reason, at: at.div_euclid(1_000), offset }
    }
}

/// Does it. Letters that are named must be there.
///
/// # Errors
/// What went wrong, for people.
pub async fn serve(
    (log, tables, world): (&dyn RecordLog, &dyn Tables, &dyn World),
    order: &Order,
) -> anyhow::Result<Vec<LetterView>> {
    let all = read(log).await.context("cannot read the dead letters")?;
    let chosen: Vec<Letter> = all.iter().filter(|letter| order.select.takes(letter)).cloned().collect();
    let there: HashMap<&LetterId, &Letter> = all.iter().map(|letter| (&letter.id, letter)).collect();
    for id in &order.select.ids {
        ensure!(there.contains_key(id), "there is no dead letter {id} (see `tributary dead-letters list --all`)");
    }
    let Some(how) = &order.handling else { return shown(log, &chosen, order).await };
    let mut views = Vec::new();
    let mut tell = |letter: &Letter, fate| views.push(LetterView::after(letter, fate));
    let handled = handle((log, tables, world), &all, &chosen, how, &mut tell).await;
    handled.with_context(|| {
        let (done, many) = (views.len(), chosen.len());
        format!("{done} of {many} letters were dealt with; give the command again, it goes on with the rest")
    })?;
    Ok(views)
}

/// One letter that is asked for by its id comes with its bytes.
async fn shown(log: &dyn RecordLog, chosen: &[Letter], order: &Order) -> anyhow::Result<Vec<LetterView>> {
    let mut views: Vec<_> = chosen.iter().map(LetterView::of).collect();
    if let ([_], [letter], [view]) = (&order.select.ids[..], chosen, &mut views[..]) {
        let frame = fetch(log, letter).await.context("cannot read the letter")?;
        let bytes = frame.payload.get(..SHOWN).unwrap_or(&frame.payload);
        view.payload = Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
    }
    Ok(views)
}
