//! A Parquet file in the store, read range by range.

use bytes::Bytes;
use futures::{
    FutureExt, TryFutureExt,
    future::{BoxFuture, ready},
};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use parquet::{
    arrow::{arrow_reader::ArrowReaderOptions, async_reader::AsyncFileReader},
    errors::{ParquetError, Result},
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};
use std::{ops::Range, sync::Arc};

/// The end of a file that is fetched first and kept: the footer of most files fits, and the whole of a small file, which
/// is then read with one request.
const TAIL_BYTES: u64 = 16 << 10;

/// One object of known size.
pub(super) struct ParquetObject {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) path: Path,
    pub(super) size: u64,
    /// The end of the file, once the footer was asked for.
    pub(super) tail: Bytes,
}

impl ParquetObject {
    /// `range` as far as it is here already.
    fn at_hand(&self, range: &Range<u64>) -> Option<Bytes> {
        let first = self.size - self.tail.len() as u64;
        let from = usize::try_from(range.start.checked_sub(first)?).ok()?;
        let to = usize::try_from(range.end.checked_sub(first)?).ok()?;
        (from <= to && to <= self.tail.len()).then(|| self.tail.slice(from..to))
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for ParquetObject {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        match self.at_hand(&range) {
            Some(bytes) => ready(Ok(bytes)).boxed(),
            None => self.objects.get_range(&self.path, range).map_err(external).boxed(),
        }
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        match ranges.iter().map(|range| self.at_hand(range)).collect::<Option<Vec<_>>>() {
            Some(bytes) => ready(Ok(bytes)).boxed(),
            None => async move { self.objects.get_ranges(&self.path, &ranges).await.map_err(external) }.boxed(),
        }
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        let size = self.size;
        let tail = size.saturating_sub(TAIL_BYTES)..size;
        async move {
            let bytes = self.get_bytes(tail.clone()).await?;
            if bytes.len() as u64 != tail.end - tail.start {
                return Err(ParquetError::EOF(format!("of {size} bytes, the last ones are not there")));
            }
            self.tail = bytes;
            let hint = usize::try_from(tail.end - tail.start).ok();
            let reader = ParquetMetaDataReader::new().with_prefetch_hint(hint);
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}
