//! Auth state that comes over from another program, or is given away.

use super::App;
use super::answer::{Data, List, Success};
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{OptionalBody, Path, Query, bytes, parse};
use super::instances::find;
use crate::auth_state::{Head, Incoming, NotTaken, Options, Outcome, Report, Snapshot};
use crate::store::Time;
use crate::store::auth_imports::AuthImportRow;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Largest body: the state of an account with some hundred thousand sessions.
pub(crate) const LIMIT: usize = 2 << 30;
/// Pieces of a body that wait to be sealed.
const AHEAD: usize = 16;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(import, undo))
        .routes(routes!(forget))
        .routes(routes!(export))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct ImportQuery {
    /// Only look and report; nothing is stored.
    #[serde(default)]
    dry_run: bool,
    /// Take the place of what the instance keeps, or of a connection.
    #[serde(default)]
    replace: bool,
    /// Go on although something is missing that should be there, such as keys.
    #[serde(default)]
    allow_missing_keys: bool,
    /// Say that the other program does not use the account any more. Needed, but for a dry run.
    #[serde(default)]
    source_stopped: bool,
}

/// Auth state of another program, whole in one body.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ImportAuthRequest)]
struct ImportBody {
    /// Which program it comes from: `baileys`, `evolution`, `omni-v1`, `omni-v2`.
    #[schema(example = "baileys")]
    source: String,
    /// Database rows: table → rows.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    rows: BTreeMap<String, Vec<Value>>,
    /// Files and cache entries: name → content in base64.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    files: BTreeMap<String, String>,
    /// Which of its stores were used, and what for; goes into the report.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>)]
    used: Vec<serde_json::Map<String, Value>>,
}

/// A takeover of auth state.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuthImport)]
struct ImportView {
    /// Our id.
    id: Uuid,
    /// The instance.
    instance_id: Uuid,
    /// Which program it came from.
    program: String,
    /// Which of its stores were used, and what for.
    #[schema(value_type = Vec<Object>)]
    source: Value,
    /// SHA-256 of what was handed in.
    snapshot: String,
    /// Whether a sealed copy of it is kept.
    has_snapshot: bool,
    /// The size of that.
    snapshot_bytes: i64,
    /// When it was taken over.
    imported_at: Time,
    /// When the instance first connected with it.
    cutover_at: Option<Time>,
    /// When it was undone.
    undone_at: Option<Time>,
    /// What the channel said of it.
    #[schema(value_type = Object)]
    report: Value,
}

impl From<AuthImportRow> for ImportView {
    fn from(row: AuthImportRow) -> Self {
        Self {
            id: row.id,
            instance_id: row.instance_id,
            program: row.source,
            source: row.used.0,
            snapshot: row.snapshot,
            has_snapshot: row.snapshot_key.is_some(),
            snapshot_bytes: row.snapshot_bytes,
            imported_at: row.created_at,
            cutover_at: row.cutover_at,
            undone_at: row.undone_at,
            report: row.report.0,
        }
    }
}

/// Lists what was taken over, the newest first.
#[utoipa::path(get, path = "/auth-imports", tag = "instances", operation_id = "list_auth_imports",
    responses((status = 200, body = List<ImportView>), (status = "default", body = ErrorBody)))]
async fn list(State(app): State<App>, caller: Caller) -> ApiResult<Json<List<ImportView>>> {
    let mut rows = app.host.auth_state.list().await?;
    rows.retain(|row| caller.instances().contains(row.instance_id));
    Ok(Json(List::whole(rows.into_iter().map(ImportView::from).collect())))
}

/// Takes the auth state of another program over, whole or not at all. The instance is left disconnected. The same snapshot
/// twice changes nothing. A sealed copy is kept until it is deleted.
///
/// The body is JSON, or for much of it a tar archive (`application/x-tar`) whose first entry is `import.json`, the same JSON
/// without `files`, and whose other entries are the files.
#[utoipa::path(post, path = "/instances/{id}/auth-import", tag = "instances", operation_id = "import_auth",
    params(("id" = String, Path, description = "Id or name"), ImportQuery), request_body = ImportBody,
    responses((status = 200, body = Data<Report>), (status = 201, body = Data<Report>),
        (status = "default", body = ErrorBody)))]
async fn import(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<ImportQuery>,
    request: Request,
) -> ApiResult<(StatusCode, Json<Data<Report>>)> {
    let instance = find(&app, &caller, &id).await?;
    let incoming = app.host.auth_state.incoming();
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let snapshot = match kind.split(';').next().unwrap_or_default().trim() {
        "application/x-tar" | "application/tar" => archived(incoming, request).await?,
        "application/json" => whole(&app, incoming, request).await?,
        _ => {
            let message = "the body must be `application/json` or `application/x-tar`";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "VALIDATION_ERROR", message));
        }
    };
    let options = Options {
        dry_run: query.dry_run,
        replace: query.replace,
        allow_missing: query.allow_missing_keys,
        source_stopped: query.source_stopped,
    };
    match app.host.auth_state.import(&instance, snapshot, options).await? {
        Outcome::Done(report) => {
            let is_news = !report.dry_run && !report.already_imported;
            let status = if is_news { StatusCode::CREATED } else { StatusCode::OK };
            Ok((status, Json(Data { data: report })))
        }
        Outcome::Incomplete(report) => {
            let missing = report.missing.join("; ");
            let message = format!(
                "something is missing, and nothing was taken over: {missing}. `allowMissingKeys` takes over what is there \
                 (--allow-missing-keys)"
            );
            Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "AUTH_INCOMPLETE", message)
                .details(json!({ "report": report })))
        }
    }
}

fn not_taken(error: NotTaken) -> ApiError {
    match error {
        NotTaken::Wrong(sentence) => ApiError::validation(sentence),
        NotTaken::Io(error) => ApiError::internal(&format!("failed to keep what was handed in: {error}")),
    }
}

async fn sealing(work: impl FnOnce() -> Result<Snapshot, NotTaken> + Send + 'static) -> ApiResult<Snapshot> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ApiError::internal(&error.to_string()))?.map_err(not_taken)
}

/// From one JSON body.
async fn whole(app: &App, (id, folder): (Uuid, PathBuf), request: Request) -> ApiResult<Snapshot> {
    let most = app.shared.options.body_limit;
    let length = super::intake::content_length(request.headers());
    if length.is_some_and(|length| length > most as u64) {
        return Err(ApiError::too_large(format!("as JSON no more than {most} bytes are taken; send a tar archive")));
    }
    let body: ImportBody = parse(&bytes(request, app).await?)?;
    sealing(move || {
        let used = body.used.into_iter().map(Value::Object).collect();
        let mut incoming = Incoming::begin(id, &folder, Head { source: body.source, rows: body.rows, used })?;
        for (name, content) in body.files {
            let content = BASE64.decode(content);
            let content = content.map_err(|error| NotTaken::Wrong(format!("files.{name}: is not base64: {error}")))?;
            incoming.file(&name, &content)?;
        }
        incoming.end()
    })
    .await
}

/// From a tar archive, as it comes.
async fn archived((id, folder): (Uuid, PathBuf), request: Request) -> ApiResult<Snapshot> {
    let (sender, pieces) = mpsc::channel(AHEAD);
    let mut body = request.into_body().into_data_stream();
    let feed = async move {
        let mut taken = 0;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| io::Error::new(io::ErrorKind::UnexpectedEof, error.to_string()));
            taken += piece.as_ref().map_or(0, Bytes::len);
            let piece = match piece {
                Ok(_) if taken > LIMIT => Err(io::Error::other(format!("it has more than {LIMIT} bytes"))),
                piece => piece,
            };
            let is_end = piece.is_err();
            // Nobody takes any more: the answer says why.
            if sender.send(piece).await.is_err() || is_end {
                break;
            }
        }
    };
    let pieces = Pieces { pieces, now: Bytes::new() };
    let (snapshot, ()) = tokio::join!(sealing(move || Incoming::from_archive(id, &folder, pieces)), feed);
    snapshot
}

/// A body, for whoever reads it without a runtime.
struct Pieces {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    now: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.now = piece?,
                None => return Ok(0),
            }
        }
        let taken = self.now.len().min(to.len());
        to[..taken].copy_from_slice(&self.now.split_to(taken));
        Ok(taken)
    }
}

/// Undoes the newest takeover of an instance: it is disconnected, and keeps what it kept before, usually nothing. Only as
/// long as nothing was sent with what came over.
#[utoipa::path(delete, path = "/instances/{id}/auth-import", tag = "instances", operation_id = "undo_auth_import",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<ImportView>), (status = "default", body = ErrorBody)))]
async fn undo(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Data<ImportView>>> {
    let instance = find(&app, &caller, &id).await?;
    Ok(Json(Data { data: app.host.auth_state.undo(&instance).await?.into() }))
}

/// Deletes the sealed copy of what was handed in. What was taken over stays.
#[utoipa::path(delete, path = "/auth-imports/{id}/snapshot", tag = "instances", operation_id = "forget_auth_snapshot",
    params(("id" = Uuid, Path, description = "Our id of the takeover")),
    responses((status = 200, body = Success), (status = "default", body = ErrorBody)))]
async fn forget(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> ApiResult<Json<Success>> {
    let row = app.host.auth_state.get(id).await?;
    let row = row.filter(|row| caller.instances().contains(row.instance_id));
    let row = row.ok_or_else(|| ApiError::not_found("auth import", id))?;
    let forgotten = app.host.auth_state.forget(row.id).await?;
    let message = if forgotten { "the sealed copy is deleted" } else { "the sealed copy was deleted before" };
    Ok(Json(Success::because(message)))
}

/// How auth state is given away.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = ExportAuthRequest)]
struct ExportBody {
    /// Although the instance is to be connected.
    #[serde(default)]
    force: bool,
}

/// The auth state, as files of the program that the channel's format is known from.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuthExport)]
struct ExportView {
    /// Name → content in base64.
    files: BTreeMap<String, String>,
}

/// Gives the auth state of an instance away, for another program. Two programs with one identity fight: an instance that is
/// to be connected is refused unless that is forced.
#[utoipa::path(post, path = "/instances/{id}/auth-export", tag = "instances", operation_id = "export_auth",
    params(("id" = String, Path, description = "Id or name")), request_body = Option<ExportBody>,
    responses((status = 200, body = Data<ExportView>), (status = "default", body = ErrorBody)))]
async fn export(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    OptionalBody(body): OptionalBody<ExportBody>,
) -> ApiResult<Json<Data<ExportView>>> {
    let instance = find(&app, &caller, &id).await?;
    let export = app.host.auth_state.export(&instance, body.force).await?;
    Ok(Json(Data { data: ExportView { files: export.files } }))
}
