//! Omni v1 and v2: the row of an instance, with the token in it.

use super::database::Database;
use super::{Gathered, MigrateError, Result, Wanted, shown, text};
use crate::auth_state::Head;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// v1 "ground zero", v1 "classic"; v2.
const TABLES: [(&str, &str); 3] =
    [("omni-v1", "omni_instance_configs"), ("omni-v1", "instance_configs"), ("omni-v2", "instances")];

pub async fn read(place: &str, program: &str, wanted: &Wanted) -> Result<Gathered> {
    let mut database = Database::open(place).await?;
    let tables = database.tables().await?;
    let known = TABLES.iter().filter(|(of, _)| *of == program).map(|(_, table)| *table);
    let found = known.clone().find_map(|table| tables.iter().find(|found| found.name == table));
    let Some(table) = found else {
        let known: Vec<_> = known.collect();
        return Err(MigrateError::NotFound(format!("{} has no table {}", shown(place), known.join(" or "))));
    };
    let rows = database.rows(table).await?;
    database.close().await;
    let channel = |row: &Value| text(row, "channel_type").or_else(|| text(row, "channel")).map(str::to_owned);
    let same = |row: &Value| channel(row).is_none_or(|channel| channel == wanted.channel);
    let by_name =
        |name: &str| rows.iter().find(|row| text(row, "name") == Some(name) || text(row, "id") == Some(name)).cloned();
    let of_channel: Vec<&Value> = rows.iter().filter(|row| same(row)).collect();
    let row = match (&wanted.source_instance, by_name(&wanted.instance).filter(same)) {
        (Some(named), _) => by_name(named),
        (None, Some(row)) => Some(row),
        (None, None) if of_channel.len() == 1 => of_channel.first().map(|row| (*row).clone()),
        (None, None) => None,
    };
    let row = row.ok_or_else(|| {
        let names: Vec<_> = rows
            .iter()
            .filter_map(|row| Some(format!("{} ({})", text(row, "name")?, channel(row).unwrap_or_default())))
            .collect();
        MigrateError::NotFound(format!(
            "name the instance in {} with --source-instance; there are: {}",
            shown(place),
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        ))
    })?;
    let name = text(&row, "name").map(str::to_owned);
    let used = json!({
        "store": "database", "place": shown(place), "table": table.name, "instance": name, "records": 1,
        "for": "credentials",
    });
    let rows = BTreeMap::from([(table.name.clone(), vec![row])]);
    Ok(Gathered { head: Head { source: program.to_owned(), rows, used: vec![used] }, records: Vec::new(), name })
}
