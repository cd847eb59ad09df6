//! `omni migrate`. `store`: moves an embedded installation into Postgres, while no host runs.

use super::ui::Ui;
use super::{CliError, Result, World};
use crate::clock::Clock;
use crate::config::{Config, DatabaseUrl};
use crate::moving::{self, MoveError, Progress, Report, Request, Step};
use crate::store::Time;
use clap::Subcommand;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::Write;

/// How often a line says how far a large table is, where no bar can be drawn.
const EVERY_MS: i64 = 10_000;
const BAR: &str = "{msg:>38} {bar:24} {human_pos:>11}/{human_len:11} {per_sec:>14} {eta:>4}";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Move the database of the data folder into Postgres, while no host runs
    #[command(after_help = AFTER)]
    Store(StoreArgs),
    /// Bring over what an account logs in with, from another program
    Auth(Box<super::migrate_auth::AuthArgs>),
}

const AFTER: &str =
    "Everything is copied: chats, messages, events, the log, what waits to be sent, webhooks, keys, what
plugins keep. Key file, media and plugins stay in the data folder. Both sides are compared row by
row at the end. After an interruption the same command goes on where it was.

Afterwards set `database.url` to the database and start the host. The file omni.db stays as it was;
no host starts on it again unless omni.moved is deleted from the data folder.

A password need not stand on the command line: without --to, the database is that of `database.url`
(OMNI_DATABASE_URL), and what is moved is omni.db in the data folder.";

#[derive(Debug, clap::Args)]
pub(super) struct StoreArgs {
    /// The database: postgres://user:password@host/database [default: `database.url`]
    #[arg(long, value_name = "URL", hide_env_values = true)]
    to: Option<String>,
    /// Only look, and read every row to see whether it can be copied
    #[arg(long)]
    dry_run: bool,
    /// Throw away an unfinished copy of this installation in the target, and begin anew
    #[arg(long)]
    restart: bool,
    /// Rows that are copied in one transaction
    #[arg(long, value_name = "COUNT", default_value_t = moving::PAGE_ROWS, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    page_rows: u32,
}

pub(super) fn store(args: &StoreArgs, config: &Config, world: &mut World) -> Result<()> {
    let to: DatabaseUrl = match &args.to {
        Some(to) => to.parse().map_err(|error: String| CliError::usage(format!("--to: {error}")))?,
        None => config.database.url.clone(),
    };
    if !matches!(to, DatabaseUrl::Postgres(_)) {
        return Err(CliError::usage("nobody says where to")
            .help("name the Postgres database with --to, or as `database.url` (OMNI_DATABASE_URL)"));
    }
    let request = Request { to, dry_run: args.dry_run, restart: args.restart, page_rows: args.page_rows };
    let clock = world.clock.clone();
    let mut shown = Shown::new(&mut world.ui, clock.clone());
    let moved = super::world::block_on(moving::run(config, &request, &clock, &mut |progress| shown.tell(progress)))?;
    shown.end();
    let report = moved.map_err(refused)?;
    let ui = &mut world.ui;
    if ui.json {
        return ui.json(&report);
    }
    say(&report, config, ui)
}

fn say(report: &Report, config: &Config, ui: &mut Ui) -> Result<()> {
    let (rows, to, from) = (report.rows, &report.to, report.from.display());
    if report.dry_run && !report.done_before {
        let resumed = if report.resumed { "; an earlier try would be gone on with" } else { "" };
        return ui.note(&format!("{rows} rows of {from} can be copied to {to}{resumed}. Nothing was changed"));
    }
    if report.done_before {
        ui.note(&format!("everything was moved to {to} before"))?;
    } else {
        let seconds = |millis: i64| format!("{:.1} s", millis as f64 / 1_000.0);
        let (copy, compare) = (seconds(report.copy_ms), seconds(report.compare_ms));
        ui.note(&format!("everything is in {to}: {rows} rows, copied in {copy} and compared in {compare}"))?;
    }
    let mark = config.data.dir.join(moving::MARK_FILE);
    ui.note("next: set `database.url` to it, keep the data folder where it is, and start `omni serve`")?;
    ui.note(&format!(
        "{from} is as it was; to go back to it, and to lose what comes from now on, delete {} and take `database.url` away",
        mark.display()
    ))
}

/// How far it is: a bar for every table where a person looks, and else a line.
struct Shown<'a> {
    bars: Option<MultiProgress>,
    bar: Option<(Step, &'static str, ProgressBar)>,
    err: &'a mut dyn Write,
    is_silent: bool,
    clock: Clock,
    began: Time,
    said: Time,
    /// Whether it was said of the table that it is done.
    is_told: bool,
}

fn word(step: Step) -> &'static str {
    match step {
        Step::Check => "looking at",
        Step::Copy => "copying",
        Step::Compare => "comparing",
    }
}

impl<'a> Shown<'a> {
    fn new(ui: &'a mut Ui, clock: Clock) -> Self {
        let is_drawn = ui.terminal.err && !ui.json;
        let now = clock.now();
        Self {
            bars: is_drawn.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
            bar: None,
            is_silent: ui.json,
            err: &mut *ui.err,
            clock,
            began: now,
            said: now,
            is_told: false,
        }
    }

    fn tell(&mut self, progress: Progress) {
        let Progress { step, table, rows, of, before } = progress;
        let is_new = self.bar.as_ref().is_none_or(|(at, name, _)| (*at, *name) != (step, table));
        if is_new {
            self.end();
            let bar = match &self.bars {
                Some(bars) => {
                    let bar =
                        ProgressBar::new(of).with_message(format!("{} {table}", word(step))).with_position(before);
                    // The template is ours, and good.
                    let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
                    bars.add(bar.with_style(style))
                }
                None => ProgressBar::hidden(),
            };
            bar.reset_eta();
            self.bar = Some((step, table, bar));
            self.began = self.clock.now();
            self.said = self.began;
            self.is_told = false;
        }
        if let Some((_, _, bar)) = &self.bar {
            bar.set_length(of.max(rows));
            bar.set_position(rows);
        }
        let now = self.clock.now();
        let is_whole = rows >= of && of > 0 && !self.is_told;
        if self.bars.is_some() || self.is_silent || !(is_whole || now.millis() - self.said.millis() >= EVERY_MS) {
            return;
        }
        self.said = now;
        self.is_told |= is_whole;
        let took = (now.millis() - self.began.millis()).max(1);
        let rate = (rows - before).saturating_mul(1_000) / took.unsigned_abs();
        // Nobody is left to tell when standard error is gone.
        let _ = writeln!(self.err, "{} {table}: {rows} of {of} rows, {rate} a second", word(step));
    }

    fn end(&mut self) {
        if let Some((_, _, bar)) = self.bar.take() {
            bar.finish();
        }
    }
}

fn refused(error: MoveError) -> CliError {
    match error {
        MoveError::NoDatabase(_)
        | MoveError::Moved(_)
        | MoveError::NotEmpty(_)
        | MoveError::Another(_)
        | MoveError::Done(_)
        | MoveError::Changed(_)
        | MoveError::Older { .. }
        | MoveError::Newer(_) => CliError::usage(error.to_string()),
        other => CliError::failed(other.to_string()),
    }
}
