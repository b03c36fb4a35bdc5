//! Parquet files: for DuckDB, Spark, ClickHouse and their like, many recordings at once.
//!
//! Numbers are signed 64-bit integers, moments UTC microseconds (nanoseconds are beyond what some
//! readers take), integrals decimals of 38 digits. Every column may be null, which is "not known".
//! Pages are compressed with Snappy. A group of rows is written when it is full, so memory is bounded.

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};

use super::columns::{Cell, Head, Kind};
use super::{Rows, Source};
use crate::sinks::TOOL_VERSION;

/// Rows of a group.
const GROUP: usize = 64 << 10;
/// Digits of a wide number, and its bytes.
const DIGITS: i32 = 38;
const WIDE: i32 = 16;

/// The values of a column of one group, nulls apart.
enum Values {
    Int(Vec<i64>),
    Bool(Vec<bool>),
    Text(Vec<ByteArray>),
    Wide(Vec<FixedLenByteArray>),
}

struct Column {
    kind: Kind,
    values: Values,
    /// For each row 1, or 0 for null.
    levels: Vec<i16>,
}

impl Column {
    fn new(kind: Kind) -> Self {
        let values = match kind {
            Kind::Number | Kind::Moment => Values::Int(Vec::new()),
            Kind::Flag => Values::Bool(Vec::new()),
            Kind::Text => Values::Text(Vec::new()),
            Kind::Wide => Values::Wide(Vec::new()),
        };
        Column {
            kind,
            values,
            levels: Vec::new(),
        }
    }

    fn push(&mut self, cell: &Cell<'_>) {
        let known = match (&mut self.values, *cell) {
            (Values::Int(to), Cell::Number(n)) => {
                let n = if self.kind == Kind::Moment {
                    n.div_euclid(1000)
                } else {
                    n
                };
                // Beyond 63 bits is no number that a kernel reports: a damaged recording's.
                i64::try_from(n).map(|n| to.push(n)).is_ok()
            }
            (Values::Bool(to), Cell::Flag(on)) => {
                to.push(on);
                true
            }
            (Values::Text(to), Cell::Text(text)) => {
                to.push(ByteArray::from(text));
                true
            }
            (Values::Wide(to), Cell::Number(n)) => {
                to.push(n.to_be_bytes().to_vec().into());
                true
            }
            _ => false,
        };
        self.levels.push(known.into());
    }

    fn clear(&mut self) {
        self.levels.clear();
        match &mut self.values {
            Values::Int(v) => v.clear(),
            Values::Bool(v) => v.clear(),
            Values::Text(v) => v.clear(),
            Values::Wide(v) => v.clear(),
        }
    }
}

fn failed(e: ParquetError) -> io::Error {
    match e {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(io) => *io,
            Err(other) => io::Error::other(other),
        },
        e => io::Error::other(e),
    }
}

fn field(head: &Head) -> Result<TypePtr, ParquetError> {
    let (physical, logical) = match head.kind {
        Kind::Number => (Physical::INT64, None),
        Kind::Moment => (
            Physical::INT64,
            Some(LogicalType::timestamp(true, TimeUnit::MICROS)),
        ),
        Kind::Flag => (Physical::BOOLEAN, None),
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Wide => (
            Physical::FIXED_LEN_BYTE_ARRAY,
            Some(LogicalType::decimal(0, DIGITS)),
        ),
    };
    let mut builder = Type::primitive_type_builder(head.name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(logical);
    if head.kind == Kind::Wide {
        builder = builder
            .with_length(WIDE)
            .with_precision(DIGITS)
            .with_scale(0);
    }
    Ok(Arc::new(builder.build()?))
}

/// Writes a file.
pub struct Parquet<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<Column>,
    rows: usize,
}

impl<W: Write + Send> Parquet<W> {
    /// Writes the head of a table called `table`.
    ///
    /// # Errors
    /// Of `out`.
    pub fn new(out: W, source: &Source, table: &str, heads: &[Head]) -> io::Result<Self> {
        let fields: Result<Vec<TypePtr>, ParquetError> = heads.iter().map(field).collect();
        let schema = Type::group_type_builder(table)
            .with_fields(fields.map_err(failed)?)
            .build()
            .map_err(failed)?;
        let h = &source.header;
        let facts = [
            ("sockmem.schema", format!("sockmem-trace/export-{table}/1")),
            ("sockmem.tool_version", TOOL_VERSION.to_owned()),
            ("sockmem.recorded_by", h.tool_version.clone()),
            ("sockmem.tier", h.tier.name().to_owned()),
            ("sockmem.start_mono_ns", h.start_mono_ns.to_string()),
            ("sockmem.start_unix_ns", h.start_unix_ns.to_string()),
        ];
        let facts = facts.map(|(key, value)| KeyValue::new(key.to_owned(), value));
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(format!("sockmem-trace version {TOOL_VERSION}"))
            .set_key_value_metadata(Some(facts.into()))
            .build();
        let file = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))
            .map_err(failed)?;
        Ok(Parquet {
            file,
            columns: heads.iter().map(|h| Column::new(h.kind)).collect(),
            rows: 0,
        })
    }

    fn group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.file.next_row_group()?;
        for column in &mut self.columns {
            let Some(mut writer) = group.next_column()? else {
                break;
            };
            let levels = Some(column.levels.as_slice());
            match (writer.untyped(), &column.values) {
                (ColumnWriter::Int64ColumnWriter(w), Values::Int(v)) => {
                    w.write_batch(v, levels, None)?
                }
                (ColumnWriter::BoolColumnWriter(w), Values::Bool(v)) => {
                    w.write_batch(v, levels, None)?
                }
                (ColumnWriter::ByteArrayColumnWriter(w), Values::Text(v)) => {
                    w.write_batch(v, levels, None)?
                }
                (ColumnWriter::FixedLenByteArrayColumnWriter(w), Values::Wide(v)) => {
                    w.write_batch(v, levels, None)?
                }
                // `field` and `Column::new` go by the same kind.
                _ => return Err(ParquetError::General("a column of another type".into())),
            };
            writer.close()?;
            column.clear();
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }

    /// Writes what is left and the footer, and gives the destination back.
    ///
    /// # Errors
    /// Of the destination.
    pub fn finish(mut self) -> io::Result<W> {
        if self.rows > 0 {
            self.group().map_err(failed)?;
        }
        self.file.into_inner().map_err(failed)
    }
}

impl<W: Write + Send> Rows for Parquet<W> {
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            column.push(cell);
        }
        self.rows += 1;
        if self.rows >= GROUP {
            self.group().map_err(failed)?;
        }
        Ok(())
    }
}
