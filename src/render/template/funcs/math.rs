//! Arithmetic.

use num_bigint::BigInt;

use super::Type::{Any, Float, Int};
use super::cast::{to_float, to_int};
use super::{Function, any, fixed, int, open};
use crate::render::template::context::{Answer, Context, Fault};
use crate::render::template::value::{Elem, List, Value};

pub(crate) const FUNCTIONS: &[Function] = &[
    fixed("add1", &[Any], |_, args| Ok(Value::int64(to_int(any(args, 0)).wrapping_add(1)))),
    open("add", &[], Any, |_, args| Ok(Value::int64(args.iter().fold(0, |sum: i64, arg| sum.wrapping_add(to_int(arg)))))),
    fixed("sub", &[Any, Any], |_, args| Ok(Value::int64(to_int(any(args, 0)).wrapping_sub(to_int(any(args, 1)))))),
    fixed("div", &[Any, Any], |_, args| divide(args, i64::wrapping_div)),
    fixed("mod", &[Any, Any], |_, args| divide(args, i64::wrapping_rem)),
    open("mul", &[Any], Any, |_, args| {
        Ok(Value::int64(args.iter().fold(1, |product: i64, arg| product.wrapping_mul(to_int(arg)))))
    }),
    open("max", &[Any], Any, |_, args| Ok(Value::int64(args.iter().map(to_int).max().unwrap_or(0)))),
    open("biggest", &[Any], Any, |_, args| Ok(Value::int64(args.iter().map(to_int).max().unwrap_or(0)))),
    open("min", &[Any], Any, |_, args| Ok(Value::int64(args.iter().map(to_int).min().unwrap_or(0)))),
    open("maxf", &[Any], Any, |_, args| {
        Ok(extreme(args, |a, b| if a > b || (a == b && b.is_sign_negative()) { a } else { b }))
    }),
    open("minf", &[Any], Any, |_, args| {
        Ok(extreme(args, |a, b| if a < b || (a == b && a.is_sign_negative()) { a } else { b }))
    }),
    fixed("ceil", &[Any], |_, args| Ok(Value::Float(to_float(any(args, 0)).ceil()))),
    fixed("floor", &[Any], |_, args| Ok(Value::Float(to_float(any(args, 0)).floor()))),
    open("round", &[Any, Int], Float, |_, args| Ok(Value::Float(round(args)))),
    fixed("add1f", &[Any], |cx, args| decimal(cx, any(args, 0), &[Value::int(1)], |a, b| Ok(a.add(&b)))),
    open("addf", &[], Any, |cx, args| decimal(cx, &Value::Float(0.0), args, |a, b| Ok(a.add(&b)))),
    open("subf", &[Any], Any, |cx, args| decimal(cx, any(args, 0), &args[1..], |a, b| Ok(a.add(&b.negated())))),
    open("mulf", &[Any], Any, |cx, args| decimal(cx, any(args, 0), &args[1..], |a, b| Ok(a.mul(&b)))),
    open("divf", &[Any], Any, |cx, args| decimal(cx, any(args, 0), &args[1..], |a, b| a.div(&b))),
    fixed("until", &[Int], |cx, args| {
        let end = int(args, 0);
        numbers(cx, 0, end, if end < 0 { -1 } else { 1 }).map(ints)
    }),
    fixed("untilStep", &[Int, Int, Int], |cx, args| numbers(cx, int(args, 0), int(args, 1), int(args, 2)).map(ints)),
    open("seq", &[], Int, seq),
];

fn divide(args: &[Value], how: fn(i64, i64) -> i64) -> Answer {
    let (a, b) = (to_int(any(args, 0)), to_int(any(args, 1)));
    if b == 0 { Err("integer divide by zero".into()) } else { Ok(Value::int64(how(a, b))) }
}

/// As `math.Max` and `math.Min`: infinity wins over what is no number, and that over all others.
fn extreme(args: &[Value], pick: fn(f64, f64) -> f64) -> Value {
    let numbers = args.iter().map(to_float);
    let found = numbers.reduce(|a, b| {
        let wins = pick(f64::NEG_INFINITY, f64::INFINITY);
        if a == wins || b == wins {
            wins
        } else if a.is_nan() || b.is_nan() {
            f64::NAN
        } else {
            pick(a, b)
        }
    });
    Value::Float(found.unwrap_or(0.0))
}

#[allow(clippy::cast_precision_loss)]
fn round(args: &[Value]) -> f64 {
    let on = args.get(2).map_or(0.5, to_float);
    let power = 10f64.powf(int(args, 1) as f64);
    let digit = power * to_float(any(args, 0));
    let fraction = if digit.is_finite() { digit.fract() } else { f64::NAN };
    (if fraction >= on { digit.ceil() } else { digit.floor() }) / power
}

/// Numbers from one to before another.
fn numbers(cx: &Context<'_>, start: i64, stop: i64, step: i64) -> Result<Vec<i64>, Fault> {
    let distance = if stop < start {
        if step >= 0 { 0 } else { start.abs_diff(stop) }
    } else if step <= 0 {
        0
    } else {
        start.abs_diff(stop)
    };
    let count = distance.div_ceil(step.unsigned_abs().max(1));
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    cx.reserve(count.saturating_mul(16))?;
    cx.step(count)?;
    let mut all = Vec::with_capacity(count);
    let mut number = start;
    for _ in 0..count {
        all.push(number);
        number = number.wrapping_add(step);
    }
    Ok(all)
}

fn ints(numbers: Vec<i64>) -> Value {
    Value::List(List::new(Elem::Int, numbers.into_iter().map(Value::int).collect()))
}

fn seq(cx: &Context<'_>, args: &[Value]) -> Answer {
    let towards = |start: i64, end: i64| if end < start { -1 } else { 1 };
    let (start, step, end) = match args.len() {
        1 => (1, towards(1, int(args, 0)), int(args, 0)),
        2 => (int(args, 0), towards(int(args, 0), int(args, 1)), int(args, 1)),
        3 => (int(args, 0), int(args, 1), int(args, 2)),
        _ => return Ok(Value::text("")),
    };
    if args.len() == 3 && end < start && step > 0 {
        return Ok(Value::text(""));
    }
    let all = numbers(cx, start, end.wrapping_add(towards(start, end)), step)?;
    Ok(Value::bytes(all.iter().map(i64::to_string).collect::<Vec<_>>().join(" ").into_bytes()))
}

/// Largest exponent of a decimal that is still worked with; far beyond what a number can hold.
const MAX_EXPONENT: i64 = 5000;

/// A decimal number of any size: `digits * 10^exponent`.
struct Decimal {
    digits: BigInt,
    exponent: i64,
}

impl Decimal {
    /// The shortest decimal that reads back as the number.
    fn new(number: f64) -> Result<Self, Fault> {
        if !number.is_finite() {
            return Err("cannot calculate with what is no finite number".into());
        }
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let decimals = digits.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let exponent: i64 = exponent.parse().unwrap_or(0);
        Ok(Self {
            digits: digits.replace('.', "").parse().unwrap_or_default(),
            exponent: exponent - i64::try_from(decimals).unwrap_or(0),
        })
    }

    fn negated(self) -> Self {
        Self { digits: -self.digits, ..self }
    }

    fn scaled(&self, exponent: i64) -> BigInt {
        &self.digits * power(self.exponent - exponent)
    }

    fn add(&self, other: &Self) -> Self {
        let exponent = self.exponent.min(other.exponent);
        Self { digits: self.scaled(exponent) + other.scaled(exponent), exponent }
    }

    fn mul(&self, other: &Self) -> Self {
        Self { digits: &self.digits * &other.digits, exponent: self.exponent + other.exponent }
    }

    /// To sixteen decimals, half away from zero.
    fn div(&self, other: &Self) -> Result<Self, Fault> {
        let zero = BigInt::default();
        if other.digits == zero {
            return Err("decimal division by 0".into());
        }
        let shift = self.exponent - other.exponent + 16;
        let (above, below) = if shift < 0 {
            (self.digits.clone(), &other.digits * power(-shift))
        } else {
            (&self.digits * power(shift), other.digits.clone())
        };
        let (quotient, rest) = (&above / &below, &above % &below);
        let negative = (above < zero) != (below < zero);
        let twice: BigInt = rest * 2;
        let rounds = twice.magnitude() >= below.magnitude();
        let digits = if !rounds {
            quotient
        } else if negative {
            quotient - 1
        } else {
            quotient + 1
        };
        Ok(Self { digits, exponent: -16 })
    }

    fn number(&self) -> f64 {
        format!("{}e{}", self.digits, self.exponent).parse().unwrap_or(0.0)
    }
}

fn power(exponent: i64) -> BigInt {
    BigInt::from(10).pow(u32::try_from(exponent).unwrap_or(0))
}

fn decimal(
    cx: &Context<'_>,
    first: &Value,
    others: &[Value],
    step: fn(Decimal, Decimal) -> Result<Decimal, Fault>,
) -> Answer {
    let mut sum = Decimal::new(to_float(first))?;
    for other in others {
        cx.step(100)?;
        sum = step(sum, Decimal::new(to_float(other))?)?;
        if sum.exponent.abs() > MAX_EXPONENT || sum.digits.bits() > 4 * MAX_EXPONENT.unsigned_abs() {
            return Err("the numbers have too many digits".into());
        }
    }
    Ok(Value::Float(sum.number()))
}
