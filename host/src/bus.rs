//! Stand-in.
use crate::store::kv::KvWriteSealed;
use uuid::Uuid;
/// Stand-in.
#[derive(Clone, Debug)]
pub struct Bus {}
/// Stand-in.
#[derive(Debug)]
pub struct Accept {
    /// .
    pub instance_id: Uuid,
    /// .
    pub channel: String,
    /// .
    pub events: Vec<Box<serde_json::value::RawValue>>,
    /// .
    pub writes: Vec<KvWriteSealed>,
}
impl Bus {
    /// .
    pub async fn accept(&self, _accept: Accept) -> Result<(), crate::store::StoreError> {
        Ok(())
    }
}
