//! `slackwater trace convert` and `generate`: requests into a file, one at a time.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use slackwater_reports::format::counted;
use slackwater_scenarios::WallTime;
use slackwater_scenarios::traffic::TraceWriter;

use crate::output;
use crate::trace::{Reading, Source, open, open_drawn};
use crate::trace_args::{Convert, Generate, To};

pub(crate) fn convert(arguments: &Convert) -> anyhow::Result<()> {
    if arguments.start.is_some() && arguments.to != To::AzureCsv {
        anyhow::bail!("--start is for azure-csv: mooncake-jsonl has no calendar; leave it out");
    }
    let file = &arguments.input.file;
    if let Some(out) = &arguments.output
        && let (Ok(from), Ok(to)) = (file.canonicalize(), out.canonicalize())
        && from == to
    {
        anyhow::bail!("{} would be written over itself; name another file with --output", file.display());
    }
    let source = open(&arguments.input, true)?;
    written(source, arguments.to, arguments.start, arguments.output.as_deref())
}

pub(crate) fn generate(arguments: &Generate) -> anyhow::Result<()> {
    let out = &arguments.output;
    let to = arguments.to.or_else(|| by_name(out)).with_context(|| {
        format!(
            "{}: the name does not say which format to write; end it in .jsonl or .csv, or add --to",
            out.display()
        )
    })?;
    let source = open_drawn(&arguments.scenario, arguments.seed)?;
    written(source, to, None, Some(out))
}

fn by_name(out: &Path) -> Option<To> {
    let name = out.file_name()?.to_str()?;
    let name = name.strip_suffix(".gz").unwrap_or(name);
    match Path::new(name).extension()?.to_str()? {
        "jsonl" => Some(To::MooncakeJsonl),
        "csv" => Some(To::AzureCsv),
        _ => None,
    }
}

/// Where the requests go.
enum Out {
    Standard(BufWriter<io::Stdout>),
    Plain(BufWriter<File>),
    Zipped(Box<GzEncoder<BufWriter<File>>>),
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Standard(out) => out.write(bytes),
            Self::Plain(out) => out.write(bytes),
            Self::Zipped(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Standard(out) => out.flush(),
            Self::Plain(out) => out.flush(),
            Self::Zipped(out) => out.flush(),
        }
    }
}

/// A file in the making. It has its name only when it is whole, so that one that was interrupted is not taken for a trace.
/// What is no plain file (a pipe, a device) is written to as it is.
struct Making {
    path: PathBuf,
    /// Where it is written; gone once it has its name.
    part: Option<PathBuf>,
}

impl Making {
    fn begin(path: &Path) -> anyhow::Result<(Self, File)> {
        // Through links, so that a link goes on being one.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let special = std::fs::metadata(&path).is_ok_and(|there| !there.is_file());
        let part = if special {
            None
        } else {
            let name =
                path.file_name().with_context(|| format!("{} is no name of a file", path.display()))?;
            let mut part = name.to_owned();
            part.push(".part");
            Some(path.with_file_name(part))
        };
        let written = part.as_ref().unwrap_or(&path);
        let file = if special { File::options().write(true).open(written) } else { File::create(written) };
        let file = file.with_context(|| format!("cannot write {}", written.display()))?;
        Ok((Self { path, part }, file))
    }

    fn done(mut self) -> anyhow::Result<()> {
        let Some(part) = self.part.take() else { return Ok(()) };
        std::fs::rename(&part, &self.path).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            // The reason why it was not finished is told already.
            let _ = std::fs::remove_file(part);
        }
    }
}

fn written(source: Source, to: To, start: Option<WallTime>, out: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = out else {
        let out = Out::Standard(BufWriter::with_capacity(1 << 16, io::stdout()));
        return match copy(source, to, start, out) {
            // A reader that has gone away (`| head`) has what it wanted.
            Err(error) if is_broken_pipe(&error) => Ok(()),
            done => done.map(|_| ()),
        };
    };
    if path.is_dir() {
        anyhow::bail!("{} is a folder; name a file in it with --output", path.display());
    }
    let (making, file) = Making::begin(path)?;
    let buffered = BufWriter::with_capacity(1 << 16, file);
    let out = if path.extension().is_some_and(|extension| extension == "gz") {
        Out::Zipped(Box::new(GzEncoder::new(buffered, Compression::default())))
    } else {
        Out::Plain(buffered)
    };
    let out = copy(source, to, start, out).with_context(|| format!("{} was not written", path.display()))?;
    if let Out::Zipped(out) = out {
        let finished = out.finish().and_then(|mut out| out.flush());
        finished.with_context(|| format!("cannot write {}", path.display()))?;
    }
    making.done()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == ErrorKind::BrokenPipe)
}

/// Writes request after request and says what was lost.
fn copy(mut source: Source, to: To, start: Option<WallTime>, out: Out) -> anyhow::Result<Out> {
    let mut next = source.traffic.next_arrival()?;
    let epoch_ns = source.traffic.epoch_ns();
    let mut writer = match to {
        To::MooncakeJsonl => TraceWriter::mooncake_jsonl(out),
        To::AzureCsv => {
            let epoch_ns = start.map(|start| start.0).or(epoch_ns).with_context(|| {
                format!(
                    "azure-csv holds times on the calendar, and {} has none; say when it began, as in --start \
                     2026-01-05T00:00:00Z",
                    source.report().source
                )
            })?;
            TraceWriter::azure_csv(out, epoch_ns).context("cannot write the trace")?
        }
    };
    let (mut named, mut rounded) = (0_u64, 0_u64);
    let mut progress = Reading::new("writing");
    while let Some(arrival) = next {
        let prefix = source.traffic.prefix();
        named += u64::from(!prefix.is_empty());
        rounded += u64::from(!arrival.at_ps.is_multiple_of(100_000));
        progress.saw(&arrival);
        writer.write(&arrival, prefix).context("cannot write the trace")?;
        next = source.traffic.next_arrival()?;
    }
    drop(progress);
    let out = writer.finish().context("cannot write the trace")?;
    let report = source.report();
    output::say(&format!("{} written", counted(report.arrivals, "request")));
    for warning in report.warnings() {
        output::say(&format!("warning: {warning}"));
    }
    match (to, epoch_ns) {
        (To::AzureCsv, _) if named > 0 => {
            let named = counted(named, "request");
            output::say(&format!("lost: the hash_ids of {named}, for which azure-csv has no place"));
        }
        (To::MooncakeJsonl, Some(epoch_ns)) => {
            output::say(&format!("lost: the calendar; time 0 was {}", WallTime(epoch_ns)));
        }
        _ => {}
    }
    if to == To::AzureCsv && rounded > 0 {
        output::say(&format!("lost: what {} had finer than 100 ns", counted(rounded, "time")));
    }
    Ok(out)
}
