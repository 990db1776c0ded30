//! Statements on columns: arrays of equal length, one per column of the statement's `unnest`.

/// Runs a statement of `sql/` on columns, then on other parameters. Each column has the name that it has in the
/// statement, and a test compares names and order: otherwise two columns of one type could be swapped unnoticed.
macro_rules! query_columns {
    (
        $query:ident $file:literal,
        $($name:ident: $type:ty = $column:expr),+ $(,)?
        $(; $($parameter:expr),+ $(,)?)?
    ) => {
        sqlx::$query!($file, $($column as $type,)+ $($($parameter,)+)?)
    };
}
pub(super) use query_columns;

/// Returns one column of a batch.
pub(super) fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}
