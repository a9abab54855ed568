//! The scalar functions: their names, signatures and volatility. What they do is in `scalar` and `strings`.

use proto::DataType;

/// A scalar function. One variant may have several signatures; its implementation tells them apart by the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Abs,
    Sign,
    Round,
    Trunc,
    Floor,
    Ceil,
    Mod,
    Power,
    Sqrt,
    Exp,
    Ln,
    Log10,
    Pi,
    Random,
    CharLength,
    OctetLength,
    Lower,
    Upper,
    Initcap,
    Substring,
    Left,
    Right,
    LeftPad,
    RightPad,
    Trim,
    LeftTrim,
    RightTrim,
    Replace,
    Position,
    Reverse,
    Repeat,
    StartsWith,
    SplitPart,
    Ascii,
    Chr,
    Concat,
    ConcatWithSeparator,
    ConcatTexts,
    ConcatBytes,
    Now,
    ClockTimestamp,
    FollowerReadTimestamp,
    CurrentDate,
    Extract,
    DateTrunc,
    ToTimestamp,
    GenRandomUuid,
    Version,
    CurrentDatabase,
    CurrentSchema,
    CurrentUser,
    BackendPid,
    CurrentSetting,
    IsInRecovery,
}

/// What a function's result depends on besides its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// Nothing.
    Immutable,
    /// The statement, the session.
    Stable,
    /// Different at each call.
    Volatile,
}

/// One way to call a function.
pub struct Signature {
    pub name: &'static str,
    pub args: &'static [DataType],
    /// Any number of further arguments, of any type.
    pub variadic: bool,
    pub result: DataType,
    pub function: Function,
}

const BOOL: DataType = DataType::Bool;
const INT2: DataType = DataType::Int2;
const INT4: DataType = DataType::Int4;
const INT8: DataType = DataType::Int8;
const FLOAT: DataType = DataType::Float8;
const NUMERIC: DataType = DataType::NUMERIC;
const TEXT: DataType = DataType::Text;
const BYTEA: DataType = DataType::Bytea;
const MOMENT: DataType = DataType::TimestampTz;
const DATE: DataType = DataType::Date;

const fn sig(name: &'static str, args: &'static [DataType], result: DataType, function: Function) -> Signature {
    Signature { name, args, variadic: false, result, function }
}

/// Every signature. Where a call fits several equally well the first one is taken, so preferred types come first.
pub static SIGNATURES: &[Signature] = &[
    sig("abs", &[FLOAT], FLOAT, Function::Abs),
    sig("abs", &[INT2], INT2, Function::Abs),
    sig("abs", &[INT4], INT4, Function::Abs),
    sig("abs", &[INT8], INT8, Function::Abs),
    sig("abs", &[NUMERIC], NUMERIC, Function::Abs),
    sig("sign", &[FLOAT], FLOAT, Function::Sign),
    sig("sign", &[NUMERIC], NUMERIC, Function::Sign),
    sig("round", &[FLOAT], FLOAT, Function::Round),
    sig("round", &[NUMERIC], NUMERIC, Function::Round),
    sig("round", &[NUMERIC, INT4], NUMERIC, Function::Round),
    sig("trunc", &[FLOAT], FLOAT, Function::Trunc),
    sig("trunc", &[NUMERIC], NUMERIC, Function::Trunc),
    sig("trunc", &[NUMERIC, INT4], NUMERIC, Function::Trunc),
    sig("floor", &[FLOAT], FLOAT, Function::Floor),
    sig("floor", &[NUMERIC], NUMERIC, Function::Floor),
    sig("ceil", &[FLOAT], FLOAT, Function::Ceil),
    sig("ceil", &[NUMERIC], NUMERIC, Function::Ceil),
    sig("ceiling", &[FLOAT], FLOAT, Function::Ceil),
    sig("ceiling", &[NUMERIC], NUMERIC, Function::Ceil),
    sig("mod", &[INT2, INT2], INT2, Function::Mod),
    sig("mod", &[INT4, INT4], INT4, Function::Mod),
    sig("mod", &[INT8, INT8], INT8, Function::Mod),
    sig("mod", &[NUMERIC, NUMERIC], NUMERIC, Function::Mod),
    sig("power", &[FLOAT, FLOAT], FLOAT, Function::Power),
    sig("pow", &[FLOAT, FLOAT], FLOAT, Function::Power),
    sig("sqrt", &[FLOAT], FLOAT, Function::Sqrt),
    sig("exp", &[FLOAT], FLOAT, Function::Exp),
    sig("ln", &[FLOAT], FLOAT, Function::Ln),
    sig("log", &[FLOAT], FLOAT, Function::Log10),
    sig("log10", &[FLOAT], FLOAT, Function::Log10),
    sig("pi", &[], FLOAT, Function::Pi),
    sig("random", &[], FLOAT, Function::Random),
    sig("length", &[TEXT], INT4, Function::CharLength),
    sig("length", &[BYTEA], INT4, Function::OctetLength),
    sig("char_length", &[TEXT], INT4, Function::CharLength),
    sig("character_length", &[TEXT], INT4, Function::CharLength),
    sig("octet_length", &[TEXT], INT4, Function::OctetLength),
    sig("octet_length", &[BYTEA], INT4, Function::OctetLength),
    sig("lower", &[TEXT], TEXT, Function::Lower),
    sig("upper", &[TEXT], TEXT, Function::Upper),
    sig("initcap", &[TEXT], TEXT, Function::Initcap),
    sig("substring", &[TEXT, INT4], TEXT, Function::Substring),
    sig("substring", &[TEXT, INT4, INT4], TEXT, Function::Substring),
    sig("substr", &[TEXT, INT4], TEXT, Function::Substring),
    sig("substr", &[TEXT, INT4, INT4], TEXT, Function::Substring),
    sig("left", &[TEXT, INT4], TEXT, Function::Left),
    sig("right", &[TEXT, INT4], TEXT, Function::Right),
    sig("lpad", &[TEXT, INT4], TEXT, Function::LeftPad),
    sig("lpad", &[TEXT, INT4, TEXT], TEXT, Function::LeftPad),
    sig("rpad", &[TEXT, INT4], TEXT, Function::RightPad),
    sig("rpad", &[TEXT, INT4, TEXT], TEXT, Function::RightPad),
    sig("btrim", &[TEXT], TEXT, Function::Trim),
    sig("btrim", &[TEXT, TEXT], TEXT, Function::Trim),
    sig("ltrim", &[TEXT], TEXT, Function::LeftTrim),
    sig("ltrim", &[TEXT, TEXT], TEXT, Function::LeftTrim),
    sig("rtrim", &[TEXT], TEXT, Function::RightTrim),
    sig("rtrim", &[TEXT, TEXT], TEXT, Function::RightTrim),
    sig("replace", &[TEXT, TEXT, TEXT], TEXT, Function::Replace),
    sig("strpos", &[TEXT, TEXT], INT4, Function::Position),
    sig("reverse", &[TEXT], TEXT, Function::Reverse),
    sig("repeat", &[TEXT, INT4], TEXT, Function::Repeat),
    sig("starts_with", &[TEXT, TEXT], BOOL, Function::StartsWith),
    sig("split_part", &[TEXT, TEXT, INT4], TEXT, Function::SplitPart),
    sig("ascii", &[TEXT], INT4, Function::Ascii),
    sig("chr", &[INT4], TEXT, Function::Chr),
    Signature { name: "concat", args: &[], variadic: true, result: TEXT, function: Function::Concat },
    Signature {
        name: "concat_ws",
        args: &[TEXT],
        variadic: true,
        result: TEXT,
        function: Function::ConcatWithSeparator,
    },
    sig("textcat", &[TEXT, TEXT], TEXT, Function::ConcatTexts),
    sig("byteacat", &[BYTEA, BYTEA], BYTEA, Function::ConcatBytes),
    sig("now", &[], MOMENT, Function::Now),
    sig("current_timestamp", &[], MOMENT, Function::Now),
    sig("transaction_timestamp", &[], MOMENT, Function::Now),
    sig("statement_timestamp", &[], MOMENT, Function::Now),
    sig("clock_timestamp", &[], MOMENT, Function::ClockTimestamp),
    sig("follower_read_timestamp", &[], MOMENT, Function::FollowerReadTimestamp),
    sig("current_date", &[], DATE, Function::CurrentDate),
    sig("extract", &[TEXT, MOMENT], NUMERIC, Function::Extract),
    sig("extract", &[TEXT, DATE], NUMERIC, Function::Extract),
    sig("date_part", &[TEXT, MOMENT], FLOAT, Function::Extract),
    sig("date_trunc", &[TEXT, MOMENT], MOMENT, Function::DateTrunc),
    sig("to_timestamp", &[FLOAT], MOMENT, Function::ToTimestamp),
    sig("gen_random_uuid", &[], DataType::Uuid, Function::GenRandomUuid),
    sig("version", &[], TEXT, Function::Version),
    sig("current_database", &[], TEXT, Function::CurrentDatabase),
    sig("current_catalog", &[], TEXT, Function::CurrentDatabase),
    sig("current_schema", &[], TEXT, Function::CurrentSchema),
    sig("current_user", &[], TEXT, Function::CurrentUser),
    sig("current_role", &[], TEXT, Function::CurrentUser),
    sig("session_user", &[], TEXT, Function::CurrentUser),
    sig("user", &[], TEXT, Function::CurrentUser),
    sig("pg_backend_pid", &[], INT4, Function::BackendPid),
    sig("current_setting", &[TEXT], TEXT, Function::CurrentSetting),
    sig("pg_is_in_recovery", &[], BOOL, Function::IsInRecovery),
];

impl Function {
    /// The name that plans show.
    pub fn name(self) -> &'static str {
        SIGNATURES.iter().find(|s| s.function == self).map_or("?", |s| s.name)
    }

    /// Whether NULL among the arguments makes the result NULL.
    pub fn is_strict(self) -> bool {
        !matches!(self, Function::Concat | Function::ConcatWithSeparator)
    }

    pub fn volatility(self) -> Volatility {
        match self {
            Function::Random | Function::GenRandomUuid | Function::ClockTimestamp => Volatility::Volatile,
            Function::Now
            | Function::FollowerReadTimestamp
            | Function::CurrentDate
            | Function::Version
            | Function::CurrentDatabase
            | Function::CurrentSchema
            | Function::CurrentUser
            | Function::BackendPid
            | Function::CurrentSetting
            | Function::IsInRecovery => Volatility::Stable,
            _ => Volatility::Immutable,
        }
    }
}
