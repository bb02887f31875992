//! What a list shows, and what it reads for that.

use super::*;
use async_trait::async_trait;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tributary_backends::log::{FetchLimit, LogError, Message, stand_in::StandIn};
use tributary_schemas::frame::Reject;

/// Counts how often it is looked at.
#[derive(Debug)]
struct Looked(Arc<dyn RecordLog>, AtomicUsize);

impl Looked {
    fn taken(&self) -> usize {
        self.1.swap(0, Ordering::SeqCst)
    }
}

#[async_trait]
impl StandIn for Looked {
    fn behind(&self) -> &dyn RecordLog {
        &*self.0
    }
    async fn look(
        &self,
        topic: Topic,
        places: &[(u32, i64)],
        limit: FetchLimit,
    ) -> Result<Vec<Vec<Message>>, LogError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.look(topic, places, limit).await
    }
}

fn put(world: &SmallWorld, letter: &DeadLetter) {
    world.stored.put(Topic::DeadLetters, 0, letter.key.clone().into(), encode(letter));
}

/// Letters about records of the batches `a-0` and `b-0`, about something that only names them, about a rejected record of
/// `a-0` in another workspace, and about nothing that is known; put aside one after the other.
fn letters(world: &mut SmallWorld) -> Vec<DeadLetter> {
    world.send("a", &[rec(1, 1)]);
    world.send("b", &[rec(2, 1)]);
    world.send_garbage(0, b"\xc3\x01fingrprt\x04w0 a-0 b-0");
    let reject = Reject {
        workspace: "w1".to_owned(),
        batch_id: "a-0".to_owned(),
        record_index: 0,
        line: None,
        received_at: 7,
        errors: Vec::new(),
        payload: "w0".to_owned(),
        payload_cut: false,
    };
    let about = |offset| letter(world, offset);
    let rejected = DeadLetter { topic: "rejects".to_owned(), offset: 3, payload: encode(&reject).to_vec(), ..about(0) };
    let strange = DeadLetter { topic: "x".repeat(300), offset: 4, payload: Vec::new(), ..about(0) };
    let mut letters = vec![about(0), about(1), about(2), rejected, strange];
    for (at, letter) in (0..).zip(&mut letters) {
        letter.at = at;
    }
    letters[1].reason = "It Ends too early".to_owned();
    letters[4].stage = format!("{}ends", "s".repeat(TEXT));
    letters
}

#[tokio::test]
async fn a_filter_takes_what_letters_say() {
    let mut world = SmallWorld::new(ONE_LANE);
    let letters = letters(&mut world);
    letters.iter().for_each(|letter| put(&world, letter));
    let log = world.process(quick(10), &Luck::immortal()).log.clone();
    let any = Filter::default;
    let text = |text: &str| Some(text.to_owned());
    let strange = format!("{}…", "x".repeat(TOPIC));
    let cases = [
        (any(), vec![4, 3, 2, 1, 0]),
        (Filter { workspace: text("w0"), ..any() }, vec![2, 1, 0]),
        (Filter { workspace: text("w1"), ..any() }, vec![3]),
        (Filter { workspace: text(""), ..any() }, vec![]),
        (Filter { batch_id: text("a-0"), ..any() }, vec![3, 0]),
        (Filter { batch_id: text("a-0"), workspace: text("w0"), ..any() }, vec![0]),
        (Filter { batch_id: text("a-"), ..any() }, vec![]),
        (Filter { matching: text("ENDS"), ..any() }, vec![1]),
        (Filter { matching: text("decode"), topic: text("records"), ..any() }, vec![2, 1, 0]),
        (Filter { topic: Some(strange), ..any() }, vec![4]),
        (Filter { since: Some(1), until: Some(3), ..any() }, vec![2, 1]),
    ];
    for (filter, offsets) in cases {
        let listing = list(&*log, &Bounds { handled: false, limit: 9, before: None }, &filter).await.unwrap();
        let found: Vec<_> = listing.letters.iter().map(|shown| shown.letter.id.offset).collect();
        assert_eq!((found, listing.summary.open), (offsets.clone(), offsets.len() as u64), "{filter:?}");
    }
    // Handling has the same.
    let filter = Filter { batch_id: Some("a-0".to_owned()), ..any() };
    let mut told = Vec::new();
    let mut tell = |letter: &Letter, _| told.push(letter.id.offset);
    let how = handling(Deed::Discarded);
    handle((&*log, &*world.tables, &SystemWorld), &[], &filter, &how, &mut tell).await.unwrap();
    assert_eq!((told, open(&*log).await), (vec![0, 3], 3));
}

/// What the frame shows of the workspace is what decoding all of it says, where it can be decoded and where it cannot.
#[tokio::test]
async fn the_workspace_is_seen_without_decoding() {
    let mut world = SmallWorld::new(ONE_LANE);
    let letters = letters(&mut world);
    letters.iter().for_each(|letter| put(&world, letter));
    let log = world.process(quick(10), &Luck::immortal()).log.clone();
    for (shown, letter) in all(&*log).await.iter().zip(&letters) {
        let contents = &shown.letter.contents;
        assert_eq!(contents.workspace.as_deref(), tributary_schemas::frame::workspace_of(&letter.payload));
        assert_eq!(contents.fault.is_none(), [0, 1, 3].contains(&shown.letter.id.offset));
    }
}

#[tokio::test]
async fn the_topic_is_read_once_and_then_what_is_shown() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send("a", &[rec(1, 1)]);
    for offset in 0..5_500 {
        put(&world, &DeadLetter { offset, at: offset, ..letter(&world, 0) });
    }
    let log = Looked(world.process(quick(10), &Luck::immortal()).log.clone(), AtomicUsize::new(0));
    listed(&log, 50, None).await;
    assert_eq!(log.taken(), 6 + 2, "the newest, and the first of the only reason");
    let id = "records/0/3000".parse().unwrap();
    show(&log, &id).await.unwrap().expect("it is there");
    assert_eq!(log.taken(), 6 + 1);
    let fates = act_on(&world, &log, &["records/0/10", "records/0/20"], &handling(Deed::Discarded)).await.unwrap();
    assert_eq!((fates.len(), log.taken()), (2, 6 + 1));
    let discarded = Filter { until: Some(21), ..Filter::default() };
    let listing = list(&log, &Bounds { handled: true, limit: 50, before: None }, &discarded).await.unwrap();
    assert_eq!((listing.letters.len(), listing.letters[0].actions.len(), log.taken()), (21, 1, 6 + 2));
}

#[tokio::test]
async fn the_last_ten_actions_are_told() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send("a", &[rec(1, 1)]);
    world.send("b", &[rec(2, 1)]);
    put_aside(&world, 0);
    let (first, second) = (letter(&world, 0), letter(&world, 1));
    let action =
        |at| Action { deed: Deed::Replayed, by: "ann".to_owned(), reason: String::new(), at, offset: Some(at) };
    for at in 0..12 {
        put(&world, &action(at).entry(&first));
    }
    // An entry whose letter the log has dropped is none of a letter, and stands before a copy that a crashed lane has left.
    put(&world, &action(12).entry(&second));
    let log = world.process(quick(10), &Luck::immortal()).log.clone();
    let letters = all(&*log).await;
    assert_eq!((letters.len(), &letters[0].actions), (1, &(2..12).map(action).collect::<Vec<_>>()));
    put(&world, &second);
    let letters = all(&*log).await;
    assert_eq!(
        (letters.len(), letters[1].letter.state, &letters[1].actions),
        (2, Some(Deed::Replayed), &vec![action(12)])
    );
    assert_eq!(listed(&*log, 9, None).await.summary.replayed, 2);
}

/// Thirty reasons, of which each has one letter more than the one before; of the first five all are dealt with.
#[tokio::test]
async fn the_most_frequent_reasons_are_told_and_the_others_counted() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send("a", &[rec(1, 1)]);
    let name = |kind: i64| format!("reason {kind:02}");
    for n in 0..30 {
        // From the last reason on, so that none stands together.
        for kind in (n..30).rev() {
            put(&world, &DeadLetter { offset: n * 100 + kind, reason: name(kind), ..letter(&world, 0) });
        }
    }
    let log = world.process(quick(10), &Luck::immortal()).log.clone();
    for kind in 25..30 {
        let filter = Filter { matching: Some(name(kind)), ..Filter::default() };
        let how = handling(Deed::Discarded);
        handle((&*log, &*world.tables, &SystemWorld), &[], &filter, &how, &mut |_, _| ()).await.unwrap();
    }
    let summary = listed(&*log, 1, None).await.summary;
    assert_eq!((summary.open, summary.discarded), ((1..=25).sum::<u64>(), (26..=30).sum::<u64>()));
    let told: Vec<_> = summary.reasons.iter().map(|kind| (kind.reason.clone(), kind.letters)).collect();
    assert_eq!(told, (5..25).rev().map(|kind| (name(kind), kind as u64 + 1)).collect::<Vec<_>>());
    assert_eq!(summary.other_reasons, (1..=5).sum::<u64>());
}
