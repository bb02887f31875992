//! The tables that a lane has open: a bounded number, the one not used for longest goes first.

use crate::{chunk::TableChunk, context::Context, lane_table::LaneTable, trouble::Trouble};
use futures::{StreamExt, TryStreamExt, stream};
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

    /// Lands each table's part of a chunk, a few at a time. A table is taken out while it is worked on: when that ends
    /// in trouble it is opened afresh the next time.
    pub(crate) async fn land(&mut self, parts: &[TableChunk]) -> Result<(), Trouble> {
        let (context, lane) = (self.context.clone(), self.lane);
        let mut work = Vec::with_capacity(parts.len());
        for part in parts {
            work.push((self.tables.remove(&part.workspace), part));
        }
        let mut landed = stream::iter(work)
            .map(|(open, part)| {
                let context = context.clone();
                async move {
                    let mut table = match open {
                        Some(open) => open.table,
                        None => LaneTable::open(context, &part.workspace, lane).await?,
                    };
                    table.land(part).await?;
                    Ok::<_, Trouble>((part.workspace.clone(), table))
                }
            })
            .buffer_unordered(context.config.concurrent_tables.max(1));
        while let Some((workspace, table)) = landed.try_next().await? {
            self.uses += 1;
            self.tables.insert(workspace, Open { table, used: self.uses });
            while self.tables.len() > self.context.config.open_tables.max(1) {
                let oldest = self.tables.iter().min_by_key(|(_, open)| open.used).map(|(name, _)| name.clone());
                let Some(oldest) = oldest else { break };
                self.tables.remove(&oldest);
            }
        }
        Ok(())
    }
}
