//! The envelopes of what went well.

use super::cursor;
use crate::store::page::Page;
use serde::Serialize;
use utoipa::ToSchema;

/// One thing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Data<T: ToSchema> {
    pub(crate) data: T,
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct List<T: ToSchema> {
    pub(crate) items: Vec<T>,
    pub(crate) meta: Meta,
}

/// Whether a list goes on.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Meta {
    /// Whether more items follow.
    pub(crate) has_more: bool,
    /// Give it as `cursor` to have them.
    pub(crate) cursor: Option<String>,
    /// How many items the network gave for this page, where a network was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total_fetched: Option<usize>,
    /// How many items are on this page, where Omni v2 tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total: Option<usize>,
}

/// It is done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Success {
    pub(crate) success: bool,
    /// What was done, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

/// It is done, and this is what came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SuccessData<T: ToSchema> {
    pub(crate) success: bool,
    pub(crate) data: T,
}

impl Success {
    pub(crate) fn because(message: impl Into<String>) -> Self {
        Self { success: true, message: Some(message.into()) }
    }
}

impl<T: ToSchema> From<Page<T>> for List<T> {
    fn from(page: Page<T>) -> Self {
        let cursor = page.next.map(cursor::encode);
        Self { items: page.items, meta: Meta::new(cursor) }
    }
}

impl Meta {
    /// With where the list goes on, if it does.
    pub(crate) fn new(cursor: Option<String>) -> Self {
        Self { has_more: cursor.is_some(), cursor, ..Self::default() }
    }
}

impl<T: ToSchema> List<T> {
    /// A list that is whole.
    pub(crate) fn whole(items: Vec<T>) -> Self {
        Self { items, meta: Meta::default() }
    }
}
