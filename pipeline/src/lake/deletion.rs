//! Deletion vectors: which rows of a live file are no longer there.

use super::{LakeError, actions::Vector, store::Store};
use bytes::Bytes;
use delta_kernel::{
    FileMeta, FileSlice, KernelError, KernelResult, KernelResultIteratorStatic, StorageHandler,
    actions::{
        deletion_vector::DeletionVectorDescriptor,
        deletion_vector_writer::{DeletionVector, StreamingDeletionVectorWriter},
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use roaring::RoaringTreemap;
use std::{collections::HashMap, sync::Arc};
use url::Url;
use uuid::Uuid;

/// Vectors of one commit in one file, in the order in which they were added.
pub(super) struct VectorFile {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) vectors: Vec<Vector>,
}

/// Writes `rows` as one file named after `id`.
pub(super) fn to_file(id: Uuid, rows: Vec<RoaringTreemap>) -> Result<VectorFile, LakeError> {
    let failed = |error: KernelError| LakeError::Halted(format!("deletion vectors that cannot be written: {error}"));
    let mut bytes = Vec::new();
    let mut vectors = Vec::with_capacity(rows.len());
    let mut writer = StreamingDeletionVectorWriter::new(&mut bytes);
    for rows in rows {
        let written = writer.write_deletion_vector(Rows(rows)).map_err(failed)?;
        vectors.push(Vector {
            storage_type: "u".to_owned(),
            path_or_inline_dv: z85::encode(id.as_bytes()),
            offset: Some(written.offset),
            size_in_bytes: written.size_in_bytes,
            cardinality: written.cardinality,
        });
    }
    writer.finalize().map_err(failed)?;
    Ok(VectorFile { name: format!("deletion_vector_{id}.bin"), bytes, vectors })
}

/// Name of the file that holds a vector, below the table's root; `None` when it stands in the log itself.
pub(super) fn file_of(table: &Url, vector: &Vector) -> Result<Option<Path>, LakeError> {
    let location =
        descriptor(table, vector)?.absolute_path(table).map_err(|error| LakeError::of_kernel(table, &error))?;
    location.map(|url| Path::from_url_path(url.path()).map_err(|error| LakeError::corrupt(url, error))).transpose()
}

/// Reads vectors; each file is fetched once.
pub(super) async fn read(store: &Store, table: &Url, vectors: &[&Vector]) -> Result<Vec<RoaringTreemap>, LakeError> {
    let mut locations = HashMap::new();
    for vector in vectors {
        if let Some(path) = file_of(table, vector)? {
            locations.insert(path.clone(), path);
        }
    }
    let fetched = stream::iter(locations.into_values()).map(|path| async move {
        let bytes = store.get(&path).await?;
        bytes.map(|bytes| (path.clone(), bytes)).ok_or_else(|| LakeError::corrupt(format!("/{path}"), "it is missing"))
    });
    let fetched: HashMap<Path, Bytes> = fetched.buffer_unordered(super::store::CONCURRENCY).try_collect().await?;
    let fetched: Arc<dyn StorageHandler> = Arc::new(Fetched(fetched));
    let mut rows = Vec::with_capacity(vectors.len());
    for vector in vectors {
        let descriptor = descriptor(table, vector)?;
        let read = descriptor.read(fetched.clone(), table).map_err(|error| {
            let file = descriptor.absolute_path(table).ok().flatten().unwrap_or_else(|| table.clone());
            LakeError::of_kernel(file, &error)
        })?;
        if read.len() != vector.cardinality.cast_unsigned() {
            let reason = format!("a deletion vector marks {} rows, the log says {}", read.len(), vector.cardinality);
            return Err(LakeError::corrupt(format!("{table}{}", vector.path_or_inline_dv), reason));
        }
        rows.push(read);
    }
    Ok(rows)
}

fn descriptor(table: &Url, vector: &Vector) -> Result<DeletionVectorDescriptor, LakeError> {
    let kind = vector.storage_type.parse();
    kind.and_then(|kind| {
        DeletionVectorDescriptor::try_new(
            kind,
            vector.path_or_inline_dv.as_str(),
            vector.offset,
            vector.size_in_bytes,
            vector.cardinality,
        )
    })
    .map_err(|error| LakeError::corrupt(format!("{table}_delta_log"), error))
}

/// Rows for the kernel's writer, which would otherwise build the bitmap once more.
struct Rows(RoaringTreemap);

impl DeletionVector for Rows {
    type IndexIterator = roaring::treemap::IntoIter;

    fn into_iter(self) -> Self::IndexIterator {
        self.0.into_iter()
    }

    fn cardinality(&self) -> u64 {
        self.0.len()
    }

    fn serialize(self) -> KernelResult<Bytes> {
        let mut bytes = Vec::with_capacity(self.0.serialized_size());
        self.0.serialize_into(&mut bytes).map_err(|error| KernelError::generic(error.to_string()))?;
        Ok(bytes.into())
    }
}

/// Files that are already here. The kernel asks its storage for the whole file for each vector in it, and a commit of
/// ours puts a thousand vectors into one file.
#[derive(Debug)]
struct Fetched(HashMap<Path, Bytes>);

impl StorageHandler for Fetched {
    fn read_files(&self, files: Vec<FileSlice>) -> KernelResult<KernelResultIteratorStatic<Bytes>> {
        let found: Vec<_> = files.into_iter().map(|(url, _)| self.file(&url)).collect();
        Ok(Box::new(found.into_iter()))
    }

    fn list_from(&self, _: &Url) -> KernelResult<KernelResultIteratorStatic<FileMeta>> {
        Err(KernelError::unsupported("fetched deletion vectors are only read"))
    }

    fn copy_atomic(&self, _: &Url, _: &Url) -> KernelResult<()> {
        Err(KernelError::unsupported("fetched deletion vectors are only read"))
    }

    fn put(&self, _: &Url, _: Bytes, _: bool) -> KernelResult<()> {
        Err(KernelError::unsupported("fetched deletion vectors are only read"))
    }

    fn head(&self, _: &Url) -> KernelResult<FileMeta> {
        Err(KernelError::unsupported("fetched deletion vectors are only read"))
    }

    fn delete(&self, _: &Url) -> KernelResult<()> {
        Err(KernelError::unsupported("fetched deletion vectors are only read"))
    }
}

impl Fetched {
    fn file(&self, url: &Url) -> KernelResult<Bytes> {
        let path = Path::from_url_path(url.path()).map_err(|error| KernelError::generic(error.to_string()))?;
        self.0.get(&path).cloned().ok_or_else(|| KernelError::file_not_found(url))
    }
}
