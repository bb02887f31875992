//! Rows → one Parquet file.
//!
//! Written through the column writers themselves, not through `ArrowWriter`: what is the same for all files of a chunk
//! (schema, properties) is made once and shared, which is most of the cost of a file with one row.

use super::LakeError;
use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use parquet::{
    arrow::{
        ArrowSchemaConverter,
        arrow_writer::{ArrowRowGroupWriterFactory, compute_leaves},
    },
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::{
        properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterPropertiesPtr},
        writer::SerializedFileWriter,
    },
    schema::types::{ColumnPath, SchemaDescriptor},
};
use std::{io::Write, sync::Arc};

/// Bytes of Arrow data in one row group: large enough to compress and scan well, small enough to be read in parallel.
const ROW_GROUP_BYTES: usize = 64 << 20;
/// Rows in one row group, whatever their size.
const ROW_GROUP_ROWS: usize = 128 << 10;
/// A file with fewer rows is written as plainly as can be: what a dictionary or a compressor's state costs to set up
/// for each of forty columns is more than it saves, and compaction rewrites such files anyway.
const PLAIN_ROWS: usize = 64;
/// In a file with fewer rows only [`BULKY`] columns are compressed: a compressor's state costs about 15 µs to set up
/// for each column, and dictionaries make most of the others small already.
const SMALL_ROWS: usize = 4_096;

/// Columns by which readers skip; statistics of the others cost and help nobody.
pub(super) const STATISTICS: [&str; 5] = ["event_at", "date", "received_at", "product_id", "_version"];
/// Columns in which a value hardly ever comes twice.
const DISTINCT: [&str; 6] = ["key", "_digest", "_version", "event_at", "record_index", "data"];
/// Columns that hold most of a file's bytes.
const BULKY: [&str; 1] = ["data"];
/// Columns that are as good as random.
const INCOMPRESSIBLE: [&str; 2] = ["key", "_digest"];

/// Encodes files of one schema.
pub(super) struct Encoder {
    schema: SchemaRef,
    parquet: SchemaDescriptor,
    usual: WriterPropertiesPtr,
    small: WriterPropertiesPtr,
    plain: WriterPropertiesPtr,
}

impl Encoder {
    pub(super) fn new(schema: SchemaRef) -> Result<Self, LakeError> {
        let parquet = ArrowSchemaConverter::new().convert(&schema).map_err(not_encoded)?;
        let zstd = Compression::ZSTD(ZstdLevel::try_new(1).map_err(not_encoded)?);
        let usual = INCOMPRESSIBLE.iter().fold(with_dictionaries().set_compression(zstd), |properties, column| {
            properties.set_column_compression(ColumnPath::from(*column), Compression::UNCOMPRESSED)
        });
        let small = BULKY.iter().fold(with_dictionaries(), |properties, column| {
            properties.set_column_compression(ColumnPath::from(*column), zstd)
        });
        let plain = base().set_dictionary_enabled(false).set_offset_index_disabled(true);
        let [usual, small, plain] = [usual, small, plain].map(|properties| Arc::new(properties.build()));
        Ok(Self { schema, parquet, usual, small, plain })
    }

    /// Writes `rows` as one file.
    pub(super) fn encode(&self, rows: &RecordBatch, file: &mut (dyn Write + Send)) -> Result<(), LakeError> {
        self.write(rows, file).map_err(not_encoded)
    }

    fn write(&self, rows: &RecordBatch, file: &mut (dyn Write + Send)) -> Result<(), ParquetError> {
        let properties = match rows.num_rows() {
            ..PLAIN_ROWS => &self.plain,
            PLAIN_ROWS..SMALL_ROWS => &self.small,
            _ => &self.usual,
        };
        let mut writer = SerializedFileWriter::new(file, self.parquet.root_schema_ptr(), properties.clone())?;
        let columns = ArrowRowGroupWriterFactory::new(&writer, self.schema.clone());
        let group_rows = rows_per_group(rows);
        for (index, start) in (0..rows.num_rows()).step_by(group_rows).enumerate() {
            let slice = rows.slice(start, group_rows.min(rows.num_rows() - start));
            let mut writers = columns.create_column_writers(index)?.into_iter();
            let mut group = writer.next_row_group()?;
            for (field, array) in self.schema.fields().iter().zip(slice.columns()) {
                for leaf in compute_leaves(field, array)? {
                    let mut column = writers.next().ok_or_else(|| ParquetError::General("a leaf too many".into()))?;
                    column.write(&leaf)?;
                    column.close()?.append_to_row_group(&mut group)?;
                }
            }
            group.close()?;
        }
        writer.close().map(drop)
    }
}

fn with_dictionaries() -> WriterPropertiesBuilder {
    DISTINCT
        .iter()
        .fold(base(), |properties, column| properties.set_column_dictionary_enabled(ColumnPath::from(*column), false))
}

fn base() -> WriterPropertiesBuilder {
    let builder = WriterProperties::builder()
        .set_created_by(concat!("Tributary ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_statistics_enabled(EnabledStatistics::None)
        .set_compression(Compression::UNCOMPRESSED);
    STATISTICS.iter().fold(builder, |builder, column| {
        builder.set_column_statistics_enabled(ColumnPath::from(*column), EnabledStatistics::Chunk)
    })
}

fn rows_per_group(rows: &RecordBatch) -> usize {
    if rows.num_rows() < PLAIN_ROWS {
        // No chunk is so large that these could be too much for one.
        return PLAIN_ROWS;
    }
    let bytes: usize = rows.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
    let row = (bytes / rows.num_rows().max(1)).max(1);
    (ROW_GROUP_BYTES / row).clamp(1, ROW_GROUP_ROWS)
}

fn not_encoded(error: ParquetError) -> LakeError {
    LakeError::Halted(format!("rows that Parquet cannot hold: {error}"))
}
