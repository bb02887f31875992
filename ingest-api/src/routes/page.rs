//! Pages: what all lists ask for and answer with, and what those below a batch have in common.

use super::batch::{batch_id, find};
use crate::{Api, failure::Failure, routes, view};
use axum::{extract::Request, http::request::Parts};
use serde::Deserialize;
use tributary_backends::tables::Permission;

/// Bytes of rows on one page: an answer is memory that no budget counts.
const PAGE_BYTES: usize = 1024 * 1024;

#[derive(Debug, Deserialize)]
struct PageQuery {
    limit: Option<String>,
    cursor: Option<String>,
}

/// Which page is wanted.
#[derive(Debug)]
pub(super) struct Page<P> {
    limit: usize,
    /// Behind which place it begins; at the first one when there is none.
    pub(super) after: Option<P>,
}

impl<P> Page<P> {
    /// Reads the query string; `position` reads a cursor.
    pub(super) async fn of(parts: &mut Parts, position: fn(&str) -> Result<P, Failure>) -> Result<Self, Failure> {
        let query: PageQuery = routes::query(parts).await?;
        let limit = view::limit(query.limit.as_deref())?;
        let after = query.cursor.as_deref().map(position).transpose()?;
        Ok(Self { limit, after })
    }

    /// How many rows to look for: one more than is shown says whether there is a next page.
    pub(super) fn rows(&self) -> usize {
        self.limit + 1
    }

    /// Keeps of the rows found what is shown; the cursor of the next page.
    pub(super) fn cut<T>(&self, found: &mut Vec<T>, cursor: impl FnOnce(&T) -> String) -> Option<String> {
        self.cut_sized(found, |_| 0, cursor)
    }

    /// The same for rows that can be large: a page ends with the row that fills [`PAGE_BYTES`].
    pub(super) fn cut_sized<T>(
        &self,
        found: &mut Vec<T>,
        size: impl Fn(&T) -> usize,
        cursor: impl FnOnce(&T) -> String,
    ) -> Option<String> {
        let mut bytes = 0;
        let fits = |row: &&T| {
            let room = bytes < PAGE_BYTES;
            bytes += size(row);
            room
        };
        let shown = found.iter().take(self.limit).take_while(fits).count();
        let more = found.len() > shown;
        found.truncate(shown);
        found.last().filter(|_| more).map(cursor)
    }
}

/// A page of what a batch lists.
#[derive(Debug)]
pub(super) struct Listing<P> {
    pub(super) workspace: String,
    pub(super) batch_id: String,
    pub(super) page: Page<P>,
}

impl<P> Listing<P> {
    /// Of a batch that the request's key may see.
    pub(super) async fn of(
        api: &Api,
        request: Request,
        position: fn(&str) -> Result<P, Failure>,
    ) -> Result<Self, Failure> {
        let (mut parts, _) = request.into_parts();
        let key = api.gate.admit(&parts.headers, Permission::Read).await?;
        let batch_id = batch_id(&mut parts).await?;
        let page = Page::of(&mut parts, position).await?;
        find(api, &key.workspace, &batch_id).await?;
        Ok(Self { workspace: key.workspace.clone(), batch_id, page })
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGE_BYTES, Page};

    fn cut(limit: usize, rows: &[usize]) -> (usize, bool) {
        let (page, mut found) = (Page::<()> { limit, after: None }, rows.to_vec());
        let next = page.cut_sized(&mut found, |row| *row, |_| "next".to_owned());
        (found.len(), next.is_some())
    }

    #[test]
    fn a_page_ends_at_its_limit_or_once_it_is_full() {
        assert_eq!(cut(3, &[]), (0, false));
        assert_eq!(cut(3, &[1, 1, 1]), (3, false));
        assert_eq!(cut(3, &[1, 1, 1, 1]), (3, true));
        assert_eq!(cut(3, &[PAGE_BYTES + 1, 1]), (1, true), "the first is always shown");
        assert_eq!(cut(3, &[PAGE_BYTES - 1, 1, 1]), (2, true));
    }
}
