//! The one implementation of every command about dead letters, wherever it runs.

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tributary_backends::{log::RecordLog, tables::Tables, world::World};
use tributary_pipeline::dead_letters::{
    self, Action, Bounds, Cursor, Deed, Fate, Filter, Handling, Letter, LetterId, Shown, Summary, handle,
};

/// Of the bytes of a letter so many are shown.
const SHOWN: usize = 64 << 10;
/// Letters of which a command says what became of them; of the others it says how many.
const TOLD: usize = 1_000;
/// Bytes of an answer, as JSON: whoever can write to the log chooses how long a letter's texts are.
const ANSWER: usize = 16 << 20;

/// Which letters are meant; everything that is given must hold. Of those that are not named only open ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    pub ids: Vec<LetterId>,
    #[serde(flatten)]
    pub filter: Filter,
}

/// Something to do about letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    List(Filter, Bounds),
    Show(LetterId),
    Handle(Selection, Handling),
}

/// What came of an [`Order`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    Page(Page),
    Letter(LetterView),
    Handled(Handled),
}

/// Letters, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub letters: Vec<LetterView>,
    /// Where the next page begins; nothing: this is the last.
    pub next: Option<Cursor>,
    pub summary: Summary,
}

/// What became of letters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Handled {
    /// The first thousand.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub letters: Vec<LetterView>,
    pub done: u64,
    /// They had been before.
    pub already: u64,
    /// They would be done.
    pub would: u64,
    pub refused: u64,
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
    fn of(letter: &Letter, actions: &[Action]) -> Self {
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
            state: letter.state.map_or("open", Deed::name).to_owned(),
            fault: contents.fault.clone(),
            actions: actions.iter().map(ActionView::of).collect(),
            payload: None,
            outcome: None,
        }
    }

    fn after(letter: &Letter, fate: Fate) -> Self {
        let (outcome, action) = match fate {
            Fate::Done(action) => (Outcome::Done, Some(action)),
            Fate::Already(action) => (Outcome::Already, Some(action)),
            Fate::Would => (Outcome::Would, None),
            Fate::Refused(why) => (Outcome::Refused(why), None),
        };
        let state = action.as_ref().map(|action| action.deed).or(letter.state);
        let letter = Letter { state, ..letter.clone() };
        Self { outcome: Some(outcome), ..Self::of(&letter, action.as_slice()) }
    }
}

impl ActionView {
    fn of(action: &Action) -> Self {
        let Action { deed, by, reason, at, offset } = action.clone();
        Self { action: deed, by, reason, at: at.div_euclid(1_000), offset }
    }
}

impl Handled {
    fn add(&mut self, view: LetterView, room: &mut Room) {
        match &view.outcome {
            Some(Outcome::Done) | None => self.done += 1,
            Some(Outcome::Already) => self.already += 1,
            Some(Outcome::Would) => self.would += 1,
            Some(Outcome::Refused(_)) => self.refused += 1,
        }
        if self.letters.len() < TOLD && room.has(&view) {
            self.letters.push(view);
        }
    }

    /// All of them.
    pub fn letters(&self) -> u64 {
        self.done + self.already + self.would + self.refused
    }
}

/// What is left of the bytes of an answer.
struct Room(usize);

impl Room {
    /// Whether there is room for it, which is then taken.
    fn has(&mut self, view: &LetterView) -> bool {
        let bytes = serde_json::to_vec(view).map_or(usize::MAX, |json| json.len());
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// Does it, and says from time to time with how many letters.
///
/// # Errors
/// What went wrong, for people.
pub async fn serve(
    (log, tables, world): (&dyn RecordLog, &dyn Tables, &dyn World),
    order: &Order,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> anyhow::Result<Found> {
    match order {
        Order::List(filter, bounds) => list(log, filter, bounds).await.map(Found::Page),
        Order::Show(id) => show(log, id).await.map(Found::Letter),
        Order::Handle(select, how) => {
            let (mut handled, mut room) = (Handled::default(), Room(ANSWER));
            let mut tell = |letter: &Letter, fate| {
                handled.add(LetterView::after(letter, fate), &mut room);
                progress(handled.letters());
            };
            let done = handle((log, tables, world), &select.ids, &select.filter, how, &mut tell).await;
            let missing = done.with_context(|| {
                let many = handled.letters();
                format!("{many} letters were dealt with before; give the command again, it goes on with the rest")
            })?;
            match missing {
                Some(id) => bail!(missing_letter(&id)),
                None => Ok(Found::Handled(handled)),
            }
        }
    }
}

fn missing_letter(id: &LetterId) -> String {
    format!("there is no dead letter {id} (see `tributary dead-letters list --all`)")
}

async fn list(log: &dyn RecordLog, filter: &Filter, bounds: &Bounds) -> anyhow::Result<Page> {
    let listing = dead_letters::list(log, bounds, filter).await;
    let listing = listing.context("cannot read the dead letters")?;
    let (mut room, mut last, mut more) = (Room(ANSWER), None, listing.more);
    let mut letters = Vec::new();
    for Shown { letter, actions, cursor } in listing.letters {
        let view = LetterView::of(&letter, &actions);
        if !letters.is_empty() && !room.has(&view) {
            more = true;
            break;
        }
        letters.push(view);
        last = Some(cursor);
    }
    Ok(Page { letters, next: last.filter(|_| more), summary: listing.summary })
}

/// With its bytes.
async fn show(log: &dyn RecordLog, id: &LetterId) -> anyhow::Result<LetterView> {
    let found = dead_letters::show(log, id).await.context("cannot read the dead letters")?;
    let (shown, frame) = found.with_context(|| missing_letter(id))?;
    let bytes = frame.payload.get(..SHOWN).unwrap_or(&frame.payload);
    let payload = Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
    Ok(LetterView { payload, ..LetterView::of(&shown.letter, &shown.actions) })
}
