//! From tokens to nodes, by the rules of Go's `text/template/parse`.

use super::lex::{Kind, Lexer, Token};
use super::node::{Block, Branches, Command, Expr, Node, Pipe, Statement, StatementKind, Templates};
use super::number::Number;
use crate::render::template::funcs;
use crate::render::template::go::{quote, runes};
use crate::render::template::value::Str;

/// Most parentheses, and most control structures, inside each other.
const MAX_NESTING: usize = 60;

/// Most variables that are known at one place.
const MAX_VARIABLES: usize = 500;

/// Most statements, operands and fields of a text: each takes hundreds of bytes.
const MAX_PARTS: usize = 50_000;

/// What is wrong with a text, and where.
#[derive(Debug)]
pub(crate) struct ParseError {
    pub(crate) pos: usize,
    pub(crate) reason: String,
}

type Parsed<T> = Result<T, ParseError>;

/// Parses the template of that name, and all that it defines.
pub(crate) fn parse(name: &str, text: &[u8], left: &[u8], right: &[u8]) -> Parsed<Templates> {
    let mut parser = Parser {
        lexer: Lexer::new(text, left, right),
        text,
        pushed: Vec::new(),
        last: 0,
        scope: Scope::default(),
        nesting: 0,
        parts: 0,
        templates: Templates::new(),
    };
    let root = parser.root()?;
    parser.add(name.to_owned(), root)?;
    Ok(parser.templates)
}

/// What belongs to one template of several.
struct Scope {
    variables: Vec<String>,
    ranges: usize,
}

impl Default for Scope {
    fn default() -> Self {
        Self { variables: vec!["$".to_owned()], ranges: 0 }
    }
}

/// What ends a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closer {
    End,
    Else,
}

/// A piece, or what ends the block.
enum Piece {
    Statement(Statement),
    Closer(Closer, usize),
    Definition,
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    text: &'t [u8],
    /// Tokens that were looked at, the next one last.
    pushed: Vec<Token<'t>>,
    /// Where the last token is.
    last: usize,
    scope: Scope,
    nesting: usize,
    parts: usize,
    templates: Templates,
}

impl<'t> Parser<'t> {
    fn next(&mut self) -> Token<'t> {
        let token = self.pushed.pop().unwrap_or_else(|| self.lexer.next());
        self.last = token.pos;
        token
    }

    fn peek(&mut self) -> Token<'t> {
        let token = self.next();
        self.pushed.push(token);
        token
    }

    fn next_non_space(&mut self) -> Token<'t> {
        loop {
            let token = self.next();
            if token.kind != Kind::Space {
                return token;
            }
        }
    }

    fn peek_non_space(&mut self) -> Token<'t> {
        let token = self.next_non_space();
        self.pushed.push(token);
        token
    }

    fn fail<T>(&self, reason: impl Into<String>) -> Parsed<T> {
        Err(ParseError { pos: self.last, reason: reason.into() })
    }

    fn unexpected<T>(&self, token: Token<'_>, context: &str) -> Parsed<T> {
        let reason = match token.kind {
            Kind::Error => self.lexer.problem.clone(),
            _ => format!("unexpected {} in {context}", describe(token)),
        };
        Err(ParseError { pos: token.pos, reason })
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Parsed<Token<'t>> {
        let token = self.next_non_space();
        if token.kind == kind { Ok(token) } else { self.unexpected(token, context) }
    }

    fn enter(&mut self) -> Parsed<()> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return self.fail(format!("nested more than {MAX_NESTING} deep"));
        }
        Ok(())
    }

    /// Counts what is kept of the text.
    fn part(&mut self) -> Parsed<()> {
        self.parts += 1;
        if self.parts > MAX_PARTS {
            let advice = "repeat what is alike with range, or make several keys of it";
            return self.fail(format!("more than {MAX_PARTS} texts, actions and operands in one template; {advice}"));
        }
        Ok(())
    }

    /// Adds a template. An empty one, of white space only, gives way to another of its name.
    fn add(&mut self, name: String, block: Block) -> Parsed<()> {
        let known = self.templates.get(&name);
        if known.is_none_or(|known| self.is_empty(known)) {
            self.templates.insert(name, block);
        } else if !self.is_empty(&block) {
            return self.fail(format!("multiple definition of template {name:?}"));
        }
        Ok(())
    }

    fn is_empty(&self, block: &Block) -> bool {
        block.iter().all(|statement| match statement.kind {
            StatementKind::Text(start, end) => runes::trim_space(&self.text[start..end]).is_empty(),
            _ => false,
        })
    }

    /// The whole text.
    fn root(&mut self) -> Parsed<Block> {
        let mut block = Block::new();
        while self.peek().kind != Kind::Eof {
            match self.piece(true)? {
                Piece::Statement(statement) => block.push(statement),
                Piece::Definition => {}
                Piece::Closer(closer, pos) => {
                    self.last = pos;
                    return self.fail(format!("unexpected {}", name(closer)));
                }
            }
        }
        Ok(block)
    }

    /// Up to `end` or `else`.
    fn block(&mut self) -> Parsed<(Block, Closer)> {
        let mut block = Block::new();
        while self.peek_non_space().kind != Kind::Eof {
            match self.piece(false)? {
                Piece::Statement(statement) => block.push(statement),
                Piece::Definition => {}
                Piece::Closer(closer, _) => return Ok((block, closer)),
            }
        }
        self.fail("unexpected EOF: an {{end}} is missing")
    }

    fn piece(&mut self, top: bool) -> Parsed<Piece> {
        let token = self.next_non_space();
        self.part()?;
        match token.kind {
            Kind::Text => {
                let kind = StatementKind::Text(token.pos, token.pos + token.text.len());
                Ok(Piece::Statement(Statement { pos: token.pos, kind }))
            }
            Kind::LeftDelim if top && self.peek_non_space().kind == Kind::Define => {
                self.next_non_space();
                self.definition()?;
                Ok(Piece::Definition)
            }
            Kind::LeftDelim => self.action(),
            _ => self.unexpected(token, "input"),
        }
    }

    fn definition(&mut self) -> Parsed<()> {
        let name = self.template_name("define clause")?;
        self.expect(Kind::RightDelim, "define clause")?;
        self.template(name, "define clause")
    }

    /// The body of a template inside this text.
    fn template(&mut self, name: String, context: &str) -> Parsed<()> {
        self.enter()?;
        let outer = std::mem::take(&mut self.scope);
        let (block, closer) = self.block()?;
        self.scope = outer;
        self.nesting -= 1;
        if closer == Closer::Else {
            return self.fail(format!("unexpected {{{{else}}}} in {context}"));
        }
        self.add(name, block)
    }

    fn action(&mut self) -> Parsed<Piece> {
        let token = self.next_non_space();
        let kind = match token.kind {
            Kind::Block => self.block_clause()?,
            Kind::Break => self.jump("break", StatementKind::Break)?,
            Kind::Continue => self.jump("continue", StatementKind::Continue)?,
            Kind::Else => {
                if !matches!(self.peek_non_space().kind, Kind::If | Kind::With) {
                    self.expect(Kind::RightDelim, "else")?;
                }
                return Ok(Piece::Closer(Closer::Else, token.pos));
            }
            Kind::End => {
                self.expect(Kind::RightDelim, "end")?;
                return Ok(Piece::Closer(Closer::End, token.pos));
            }
            Kind::If => StatementKind::If(self.control("if", Some(Kind::If))?),
            Kind::With => StatementKind::With(self.control("with", Some(Kind::With))?),
            Kind::Range => StatementKind::Range(self.control("range", None)?),
            Kind::Template => self.template_clause()?,
            _ => {
                self.pushed.push(token);
                StatementKind::Action(self.pipeline("command", Kind::RightDelim)?)
            }
        };
        Ok(Piece::Statement(Statement { pos: token.pos, kind }))
    }

    fn jump(&mut self, word: &str, kind: StatementKind) -> Parsed<StatementKind> {
        self.expect(Kind::RightDelim, &format!("{{{{{word}}}}}"))?;
        if self.scope.ranges == 0 {
            return self.fail(format!("{{{{{word}}}}} outside {{{{range}}}}"));
        }
        Ok(kind)
    }

    /// `if`, `with` or `range` up to its end. `again` is what may follow an `else`.
    fn control(&mut self, context: &str, again: Option<Kind>) -> Parsed<Branches> {
        self.enter()?;
        let mark = self.scope.variables.len();
        let mut branches = Branches { arms: Vec::with_capacity(1), otherwise: None };
        let mut open = true;
        while open {
            let pipe = self.pipeline(context, Kind::RightDelim)?;
            self.scope.ranges += usize::from(context == "range");
            let (block, closer) = self.block()?;
            self.scope.ranges -= usize::from(context == "range");
            branches.arms.push((pipe, block));
            open = closer == Closer::Else && again.is_some_and(|again| self.peek_non_space().kind == again);
            if open {
                self.next_non_space();
            } else if closer == Closer::Else {
                let (block, closer) = self.block()?;
                if closer == Closer::Else {
                    return self.fail("expected end; found {{else}}");
                }
                branches.otherwise = Some(block);
            }
        }
        self.scope.variables.truncate(mark);
        self.nesting -= 1;
        Ok(branches)
    }

    fn block_clause(&mut self) -> Parsed<StatementKind> {
        let name = self.template_name("block clause")?;
        let pipe = self.pipeline("block clause", Kind::RightDelim)?;
        self.template(name.clone(), "block clause")?;
        Ok(StatementKind::Template(name, Some(pipe)))
    }

    fn template_clause(&mut self) -> Parsed<StatementKind> {
        let name = self.template_name("template clause")?;
        let token = self.next_non_space();
        if token.kind == Kind::RightDelim {
            return Ok(StatementKind::Template(name, None));
        }
        self.pushed.push(token);
        Ok(StatementKind::Template(name, Some(self.pipeline("template clause", Kind::RightDelim)?)))
    }

    fn template_name(&mut self, context: &str) -> Parsed<String> {
        let token = self.next_non_space();
        if !matches!(token.kind, Kind::String | Kind::RawString) {
            return self.unexpected(token, context);
        }
        let name = quote::unquote(token.text).and_then(|name| String::from_utf8(name).ok());
        name.map_or_else(|| self.fail("invalid syntax of a template's name"), Ok)
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Parsed<Pipe> {
        let pos = self.peek_non_space().pos;
        let mut pipe = Pipe { pos, assigns: false, variables: Vec::new(), commands: Vec::with_capacity(1) };
        self.declarations(&mut pipe, context)?;
        loop {
            let token = self.next_non_space();
            match token.kind {
                kind if kind == end => break,
                Kind::Bool
                | Kind::CharConstant
                | Kind::Complex
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    self.pushed.push(token);
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => return self.unexpected(token, context),
            }
        }
        if pipe.commands.is_empty() {
            return self.fail(format!("missing value for {context}"));
        }
        let stuck = pipe.commands.iter().skip(1).position(|command| {
            matches!(command.args[0].expr, Expr::Bool(_) | Expr::Dot | Expr::Nil | Expr::Number(_) | Expr::Str(_))
        });
        match stuck {
            Some(stage) => self.fail(format!("non executable command in pipeline stage {}", stage + 2)),
            None => Ok(pipe),
        }
    }

    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Parsed<()> {
        while self.peek_non_space().kind == Kind::Variable {
            let variable = self.next();
            let after = self.peek();
            let next = self.peek_non_space();
            let comma = next.kind == Kind::Char && next.text == b",";
            if !comma && !matches!(next.kind, Kind::Assign | Kind::Declare) {
                if after.kind == Kind::Space {
                    self.pushed.push(after);
                }
                self.pushed.push(variable);
                return Ok(());
            }
            self.next_non_space();
            pipe.assigns = next.kind == Kind::Assign;
            let name = string(variable.text);
            if self.scope.variables.len() >= MAX_VARIABLES {
                return self.fail(format!("more than {MAX_VARIABLES} variables in one template"));
            }
            pipe.variables.push(name.clone());
            self.scope.variables.push(name);
            if !comma {
                return Ok(());
            }
            if context != "range" || pipe.variables.len() >= 2 {
                return self.fail(format!("too many declarations in {context}"));
            }
            if !matches!(self.peek_non_space().kind, Kind::Variable | Kind::RightDelim | Kind::RightParen) {
                return self.fail("range can only initialize variables");
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Parsed<Command> {
        let mut args = Vec::with_capacity(1);
        loop {
            self.peek_non_space();
            args.extend(self.operand()?);
            let token = self.next();
            match token.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => self.pushed.push(token),
                Kind::Pipe => {}
                _ => return self.unexpected(token, "operand"),
            }
            break;
        }
        if args.is_empty() { self.fail("empty command") } else { Ok(Command { args }) }
    }

    /// A term and the fields behind it.
    fn operand(&mut self) -> Parsed<Option<Node>> {
        let Some(mut node) = self.term()? else { return Ok(None) };
        let first = self.peek();
        if first.kind != Kind::Field {
            return Ok(Some(node));
        }
        let mut fields = Vec::new();
        while self.peek().kind == Kind::Field {
            self.part()?;
            fields.push(string(&self.next().text[1..]));
        }
        match &mut node.expr {
            Expr::Field(names) | Expr::Variable(names) => {
                names.append(&mut fields);
                node.pos = first.pos;
            }
            Expr::Bool(_) | Expr::Str(_) | Expr::Number(_) | Expr::Nil | Expr::Dot => {
                return self.fail(format!("unexpected . after term {node}"));
            }
            _ => node = Node { pos: first.pos, expr: Expr::Chain(Box::new(node), fields) },
        }
        Ok(Some(node))
    }

    fn term(&mut self) -> Parsed<Option<Node>> {
        let token = self.next_non_space();
        let expr = match token.kind {
            Kind::Identifier => match funcs::find(token.text) {
                Some(function) => Expr::Function(function),
                None => return self.fail(format!("function {:?} not defined", string(token.text))),
            },
            Kind::Dot => Expr::Dot,
            Kind::Nil => Expr::Nil,
            Kind::Variable => {
                let name = string(token.text);
                if !self.scope.variables.contains(&name) {
                    return self.fail(format!("undefined variable {name:?}"));
                }
                Expr::Variable(vec![name])
            }
            Kind::Field => Expr::Field(vec![string(&token.text[1..])]),
            Kind::Bool => Expr::Bool(token.text == b"true"),
            Kind::CharConstant => match quote::unquote_rune(token.text) {
                Some(code) => Expr::Number(Box::new(Number::rune(string(token.text), code))),
                None => return self.fail("malformed character constant"),
            },
            Kind::Complex | Kind::Number => match Number::parse(&string(token.text)) {
                Ok(number) => Expr::Number(Box::new(number)),
                Err(reason) => return self.fail(reason),
            },
            Kind::LeftParen => {
                self.enter()?;
                let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                self.nesting -= 1;
                Expr::Pipe(Box::new(pipe))
            }
            Kind::String | Kind::RawString => match quote::unquote(token.text) {
                Some(text) => Expr::Str(Str::new(text)),
                None => return self.fail("invalid syntax in a string"),
            },
            _ => {
                self.pushed.push(token);
                return Ok(None);
            }
        };
        self.part()?;
        Ok(Some(Node { pos: token.pos, expr }))
    }
}

fn string(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn name(closer: Closer) -> &'static str {
    match closer {
        Closer::End => "{{end}}",
        Closer::Else => "{{else}}",
    }
}

/// A token for an error. Strings may be secret if the template is.
fn describe(token: Token<'_>) -> String {
    match token.kind {
        Kind::Eof => "EOF".to_owned(),
        Kind::String | Kind::RawString => "\"…\"".to_owned(),
        Kind::Text => "text".to_owned(),
        kind if kind as u8 > Kind::Variable as u8 => format!("<{}>", string(token.text)),
        _ => format!("{:?}", string(token.text).chars().take(20).collect::<String>()),
    }
}
