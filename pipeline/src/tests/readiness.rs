//! When a pipeline says that it is able.

use super::{
    mortal::Fate,
    small_world::{Rec, SmallWorld, quick},
};
use crate::{context::Health, pipeline::Pipeline};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tributary_schemas::identity::Lanes;

#[test]
fn what_is_not_able_yet_is_named_until_it_is() {
    let health = Health::default();
    assert_eq!(health.ready(), Ok(()));
    health.begin(["group a".to_owned(), "group b".to_owned()]);
    health.able("group a");
    health.begins("partition 3", "has not landed yet what waits for it");
    let missing = health.ready().unwrap_err();
    assert!(missing.contains("group b has not said") && missing.contains("partition 3 has not landed"), "{missing}");
    assert_eq!(health.check(), Ok(()), "nothing has halted");
    health.able("group b");
    health.able("partition 3");
    assert_eq!(health.ready(), Ok(()));
    health.halted("partition 3", "broken");
    assert!(health.ready().unwrap_err().contains("broken"));
    health.begin([]);
    assert_eq!(health.ready(), Ok(()));
}

/// A lane that has something to land is able once it has landed some of it: with a lake that fails it is not.
#[tokio::test]
async fn a_lane_is_able_once_a_chunk_has_landed_or_nothing_waits() {
    let mut world = SmallWorld::new(Lanes { partitions: 2, spread: 2 });
    for waiting in [0u8, 1] {
        for who in 0..waiting * 20 {
            world.send("b", &[Rec { workspace: 0, who, content: 1 }]);
        }
        let pipeline = Pipeline { context: world.process(quick(10), &Fate::immortal()) };
        pipeline.context.health.begin(["group lanes of records".to_owned()]);
        let (health, context, stop) = (pipeline.health(), pipeline.context.clone(), CancellationToken::new());
        assert!(health.ready().unwrap_err().contains("group lanes of records"), "{:?}", health.ready());
        let running = tokio::spawn(pipeline.run(stop.clone()));
        let able = async {
            while health.ready().is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), able).await.expect("it is able");
        assert_eq!(context.metrics.records("landed") > 0, waiting > 0, "it has landed something if there was anything");
        stop.cancel();
        timeout(Duration::from_secs(10), running).await.expect("it ends in time").unwrap().unwrap();
    }
}
