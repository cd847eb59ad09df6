//! Stand-in.
use super::{Result, Tx};
use uuid::Uuid;
/// .
#[derive(Debug)]
pub struct KvWriteSealed {
    /// .
    pub key: String,
    /// .
    pub value: Option<Vec<u8>>,
}
/// .
pub async fn get(_tx: &mut Tx, _i: Uuid, _k: &str) -> Result<Option<Vec<u8>>> {
    Ok(None)
}
/// .
pub async fn scan(_tx: &mut Tx, _i: Uuid, _p: &str, _a: Option<&str>, _l: u32) -> Result<Vec<(String, Vec<u8>)>> {
    Ok(Vec::new())
}
