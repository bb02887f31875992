//! Any sequence of chunks, conflicts, crashes, checkpoints and reopenings by two writers leaves exactly the rows that a
//! map from identity to its latest version has.

use super::{
    Home, live,
    rows::{self, Row},
};
use crate::lake::{LakeError, Table, TableCommit};
use proptest::prelude::*;
use std::collections::BTreeMap;
use uuid::Uuid;

/// One step of one of two writers.
#[derive(Debug, Clone)]
enum Step {
    /// Writes these identities, overwriting those that are there.
    Land {
        writer: usize,
        numbers: Vec<u64>,
    },
    /// Writes files and dies before the commit.
    Abandon {
        writer: usize,
        numbers: Vec<u64>,
    },
    /// Deletes these identities, if they are there.
    Delete {
        writer: usize,
        numbers: Vec<u64>,
    },
    Refresh {
        writer: usize,
    },
    Reopen {
        writer: usize,
    },
    Checkpoint {
        writer: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let writer = 0..2usize;
    let numbers = prop::collection::btree_set(0..40u64, 1..12).prop_map(Vec::from_iter);
    prop_oneof![
        6 => (writer.clone(), numbers.clone()).prop_map(|(writer, numbers)| Step::Land { writer, numbers }),
        1 => (writer.clone(), numbers.clone()).prop_map(|(writer, numbers)| Step::Abandon { writer, numbers }),
        2 => (writer.clone(), numbers).prop_map(|(writer, numbers)| Step::Delete { writer, numbers }),
        1 => writer.clone().prop_map(|writer| Step::Refresh { writer }),
        1 => writer.clone().prop_map(|writer| Step::Reopen { writer }),
        1 => writer.prop_map(|writer| Step::Checkpoint { writer }),
    ]
}

/// What must be in the table, and where the index says it is.
#[derive(Default)]
struct Model {
    versions: BTreeMap<u64, i64>,
    places: BTreeMap<u64, (Uuid, u32)>,
    next_version: i64,
}

impl Model {
    fn rows(&self, numbers: &[u64]) -> Vec<Row> {
        let row = |(index, number): (usize, &u64)| Row {
            number: *number,
            version: self.next_version + index as i64,
            day: (*number % 3) as i32,
        };
        numbers.iter().enumerate().map(row).collect()
    }

    fn deletes(&self, numbers: &[u64]) -> BTreeMap<Uuid, Vec<u32>> {
        let mut deletes: BTreeMap<Uuid, Vec<u32>> = BTreeMap::new();
        for (file, row) in numbers.iter().filter_map(|number| self.places.get(number)) {
            deletes.entry(*file).or_default().push(*row);
        }
        deletes
    }
}

/// Commits, as often as it takes; a writer that is behind must be told so and be right after one refresh.
async fn commit(table: &mut Table, commit: impl Fn() -> TableCommit, newest: u64) {
    if table.version() < newest {
        let lost = table.commit(commit()).await;
        assert!(matches!(lost, Err(LakeError::Conflict(_))), "{lost:?}");
        table.refresh().await.unwrap();
    }
    assert_eq!(table.commit(commit()).await.unwrap(), newest + 1);
}

async fn take(home: &Home, writers: &mut [Table], model: &mut Model, step: Step) {
    let newest = writers.iter().map(Table::version).max().unwrap();
    match step {
        Step::Land { writer, numbers } => {
            let rows = model.rows(&numbers);
            let written = writers[writer].write(0, &rows::batch(&rows)).await.unwrap();
            let deletes = model.deletes(&numbers);
            let adds = written.files;
            let change = || TableCommit { adds: adds.clone(), deletes: deletes.clone(), ..TableCommit::default() };
            commit(&mut writers[writer], change, newest).await;
            for (row, place) in rows.iter().zip(written.places) {
                model.versions.insert(row.number, row.version);
                model.places.insert(row.number, place);
            }
            model.next_version += rows.len() as i64;
        }
        Step::Abandon { writer, numbers } => {
            writers[writer].write(0, &rows::batch(&model.rows(&numbers))).await.unwrap();
        }
        Step::Delete { writer, numbers } => {
            let deletes = model.deletes(&numbers);
            let change = || TableCommit { deletes: deletes.clone(), ..TableCommit::default() };
            commit(&mut writers[writer], change, newest).await;
            for number in numbers {
                model.versions.remove(&number);
                model.places.remove(&number);
            }
        }
        Step::Refresh { writer } => writers[writer].refresh().await.unwrap(),
        Step::Reopen { writer } => writers[writer] = home.table().await,
        Step::Checkpoint { writer } => writers[writer].checkpoint().await.unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn live_rows_are_the_models(steps in prop::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let home = Home::new();
            let mut writers = [home.table().await, home.table().await];
            let mut model = Model::default();
            for step in steps {
                take(&home, &mut writers, &mut model, step).await;
            }
            let fresh = home.table().await;
            assert_eq!(live(&fresh, 0, None).await, model.versions);
            for mut table in writers {
                table.refresh().await.unwrap();
                assert_eq!(live(&table, 0, None).await, model.versions);
                assert_eq!(table.version(), fresh.version());
            }
        });
    }
}
