//! The tables that a lane has open: a bounded number, the one not used for longest goes first.

use crate::{
    chunk::TableChunk, chunking::smallest_first, context::Context, lane_table::LaneTable, say, trouble::Trouble,
};
use futures::{TryStreamExt, stream::FuturesUnordered};
use std::{collections::HashMap, sync::Arc};

pub(crate) struct OpenTables {
    context: Arc<Context>,
    lane: u32,
    tables: HashMap<String, Open>,
    /// Counts uses, to tell which was last.
    uses: u64,
}

struct Open {
    table: LaneTable,
    used: u64,
}

impl OpenTables {
    pub(crate) fn new(context: Arc<Context>, lane: u32) -> Self {
        Self { context, lane, tables: HashMap::new(), uses: 0 }
    }

    /// Lands each table's part of a chunk, a few at a time and the smallest first, and says so of each as soon as it has. A
    /// table is taken out while it is worked on: when that ends in trouble it is opened afresh the next time.
    pub(crate) async fn land(&mut self, mut parts: Vec<TableChunk>) -> Result<(), Trouble> {
        smallest_first(&mut parts, |part| part.rows.num_rows());
        let at_once = self.context.config.concurrent_tables.max(1);
        let mut working = FuturesUnordered::new();
        for part in parts {
            while working.len() >= at_once {
                self.put_back(working.try_next().await?);
            }
            let open = self.tables.remove(&part.workspace).map(|open| open.table);
            working.push(land_one(self.context.clone(), self.lane, open, part));
        }
        while let Some(landed) = working.try_next().await? {
            self.put_back(Some(landed));
        }
        Ok(())
    }

    fn put_back(&mut self, landed: Option<(String, LaneTable)>) {
        let Some((workspace, table)) = landed else { return };
        self.uses += 1;
        self.tables.insert(workspace, Open { table, used: self.uses });
        if self.tables.len() > self.context.config.open_tables.max(1) {
            let oldest = self.tables.iter().min_by_key(|(_, open)| open.used).map(|(name, _)| name.clone());
            oldest.map(|oldest| self.tables.remove(&oldest));
        }
    }
}

async fn land_one(
    context: Arc<Context>,
    lane: u32,
    open: Option<LaneTable>,
    part: TableChunk,
) -> Result<(String, LaneTable), Trouble> {
    let mut table = match open {
        Some(table) => table,
        None => LaneTable::open(context.clone(), &part.workspace, lane).await?,
    };
    table.land(&part).await?;
    let workspace = part.workspace.clone();
    say::landed(&context, part).await?;
    Ok((workspace, table))
}
