//! Finds what could be changed.

use std::collections::HashSet;
use std::ops::Range;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Arm, Attribute, BinOp, Block, Expr, ExprBinary, ExprConst, ExprMatch, ExprRepeat, ExprUnary, File, GenericArgument,
    ImplItemConst, ImplItemFn, ItemConst, ItemEnum, ItemFn, ItemImpl, ItemMod, ItemStatic, ItemTrait, Pat, ReturnType,
    Signature, TraitItemConst, TraitItemFn, Type, TypeArray, UnOp,
};

use crate::site::{Choice, Form, Site};

/// Which mutants are to be put in.
pub(crate) struct Wanted {
    /// The number of the first one of a file.
    pub(crate) first: usize,
    /// `None`: none, they are only counted.
    pub(crate) numbers: Option<HashSet<usize>>,
}

/// What there is in a file.
pub(crate) struct Found {
    pub(crate) wanted: Wanted,
    /// All there could be.
    pub(crate) mutants: Vec<Mutant>,
    /// Where those go that are wanted, in the order that [`render`](crate::site::render) asks for.
    pub(crate) sites: Vec<Site>,
}

pub(crate) struct Mutant {
    pub(crate) line: usize,
    pub(crate) function: String,
    pub(crate) what: String,
}

pub(crate) fn find(source: &str, tree: &File, wanted: Wanted) -> Found {
    let found = Found { wanted, mutants: Vec::new(), sites: Vec::new() };
    let mut finder = Finder { source, found, owner: String::new(), function: String::new() };
    finder.visit_file(tree);
    let mut found = finder.found;
    // Those that are as long are in the right order already.
    found.sites.sort_by_key(|site| (site.range.start, usize::MAX - site.range.end));
    found
}

struct Finder<'s> {
    source: &'s str,
    found: Found,
    /// The type or trait that functions are of.
    owner: String,
    function: String,
}

/// What other operators stand for an operator.
fn others(operator: &BinOp) -> &'static [&'static str] {
    match operator {
        BinOp::Add(_) => &["-", "*"],
        BinOp::Sub(_) => &["+", "/"],
        BinOp::Mul(_) => &["+", "/"],
        BinOp::Div(_) => &["%", "*"],
        BinOp::Rem(_) => &["/", "+"],
        BinOp::And(_) => &["||"],
        BinOp::Or(_) => &["&&"],
        BinOp::BitXor(_) => &["|", "&"],
        BinOp::BitAnd(_) => &["|", "^"],
        BinOp::BitOr(_) => &["&", "^"],
        BinOp::Shl(_) => &[">>"],
        BinOp::Shr(_) => &["<<"],
        BinOp::Eq(_) => &["!="],
        BinOp::Ne(_) => &["=="],
        BinOp::Lt(_) => &["<=", "==", ">"],
        BinOp::Le(_) => &["<", ">"],
        BinOp::Ge(_) => &[">", "<"],
        BinOp::Gt(_) => &[">=", "==", "<"],
        BinOp::AddAssign(_) => &["-=", "*="],
        BinOp::SubAssign(_) => &["+=", "/="],
        BinOp::MulAssign(_) => &["+=", "/="],
        BinOp::DivAssign(_) => &["%=", "*="],
        BinOp::RemAssign(_) => &["/=", "+="],
        BinOp::BitXorAssign(_) => &["|=", "&="],
        BinOp::BitAndAssign(_) => &["|=", "^="],
        BinOp::BitOrAssign(_) => &["&=", "^="],
        BinOp::ShlAssign(_) => &[">>="],
        BinOp::ShrAssign(_) => &["<<="],
        _ => &[],
    }
}

/// What a function returns instead, as far as that can be told by the name of a type.
fn values(returned: &ReturnType) -> &'static [&'static str] {
    let ReturnType::Type(_, returned) = returned else { return &[""] };
    match &**returned {
        Type::Tuple(parts) if parts.elems.is_empty() => &[""],
        Type::Tuple(_) | Type::Array(_) => &["Default::default()"],
        Type::Reference(to) => match &*to.elem {
            Type::Path(path) if path.path.is_ident("str") => &["\"\""],
            Type::Slice(_) => &["&[]"],
            _ => &[],
        },
        Type::Path(path) => match path.path.segments.last().map(|last| last.ident.to_string()).as_deref() {
            Some("bool") => &["true", "false"],
            Some("u8" | "u16" | "u32" | "u64" | "u128" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize") => {
                &["0", "1"]
            }
            Some("Option") => &["None"],
            Some("Result") => &["Ok(Default::default())"],
            _ => &["Default::default()"],
        },
        _ => &[],
    }
}

/// True for what only tests have, or builds with less than all features.
fn is_elsewhere(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        let says = |word: &str| match &attribute.meta {
            syn::Meta::List(list) => {
                list.tokens.to_string().split(|c: char| !c.is_alphanumeric()).any(|part| part == word)
            }
            _ => false,
        };
        path.is_ident("test") || path.is_ident("cfg") && (says("test") && !says("any") || says("not"))
    })
}

/// True for a condition that binds something, which cannot stand in parentheses.
fn binds(expression: &Expr) -> bool {
    match expression {
        Expr::Let(_) => true,
        Expr::Binary(ExprBinary { left, op: BinOp::And(_), right, .. }) => binds(left) || binds(right),
        _ => false,
    }
}

fn range(of: &impl Spanned) -> Range<usize> {
    of.span().byte_range()
}

impl Finder<'_> {
    fn text(&self, of: &impl Spanned) -> String {
        let text = &self.source[range(of)];
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Counts a mutant; its number, if it is wanted.
    fn number(&mut self, at: &impl Spanned, what: String) -> Option<usize> {
        let Wanted { first, numbers } = &self.found.wanted;
        let number = first + self.found.mutants.len();
        let line = at.span().start().line;
        self.found.mutants.push(Mutant { line, function: self.function.clone(), what });
        numbers.as_ref().is_some_and(|numbers| numbers.contains(&number)).then_some(number)
    }

    /// Those of some choices that are wanted.
    fn choices(&mut self, at: &impl Spanned, of: &str, texts: impl IntoIterator<Item = String>) -> Vec<Choice> {
        let choice = |text: String| {
            let shown = text.split_whitespace().collect::<Vec<_>>().join(" ");
            Some((self.number(at, format!("{of}: {shown}"))?, text))
        };
        texts.into_iter().filter_map(choice).collect()
    }

    fn site(&mut self, range: Range<usize>, form: Form) {
        self.found.sites.push(Site { range, form });
    }

    fn function(&mut self, attributes: &[Attribute], signature: &Signature, block: &Block) {
        let name = signature.ident.to_string();
        if is_elsewhere(attributes) || signature.constness.is_some() || ["fmt", "default"].contains(&name.as_str()) {
            return;
        }
        let name = if self.owner.is_empty() { name } else { format!("{}::{name}", self.owner) };
        let before = std::mem::replace(&mut self.function, name);
        let body = self.text(block);
        let body = body.trim_start_matches('{').trim_end_matches('}').trim();
        let texts = values(&signature.output).iter().filter(|value| !body.is_empty() && **value != body);
        let texts: Vec<_> = texts.map(|value| format!("return {value};").replace(" ;", ";")).collect();
        let choices = self.choices(&signature.ident, "begins with", texts);
        if !choices.is_empty() {
            self.site(range(block), Form::Body(choices));
        }
        visit::visit_block(self, block);
        self.function = before;
    }

    fn owned(&mut self, owner: String, visit: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.owner, owner);
        visit(self);
        self.owner = before;
    }

    fn arm(&mut self, arm: &Arm, may_go: bool) {
        let pattern = self.text(&arm.pat);
        let gone = if may_go { self.number(&arm.pat, format!("without the arm {pattern}")) } else { None };
        if let Some((_, guard)) = &arm.guard {
            let of = format!("guard {}", self.text(guard));
            let choices = self.choices(guard, &of, ["true", "false"].map(Into::into));
            if gone.is_some() || !choices.is_empty() {
                self.site(range(guard), Form::Guard { choices, gone });
            }
        } else if let Some(number) = gone {
            let end = range(&arm.pat).end;
            self.site(end..end, Form::Arm(number));
        }
    }
}

impl<'a> Visit<'a> for Finder<'_> {
    fn visit_item_mod(&mut self, module: &'a ItemMod) {
        if !is_elsewhere(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'a ItemFn) {
        // One that is written inside of another one has its own name.
        self.owned(String::new(), |finder| finder.function(&function.attrs, &function.sig, &function.block));
    }

    fn visit_impl_item_fn(&mut self, function: &'a ImplItemFn) {
        self.function(&function.attrs, &function.sig, &function.block);
    }

    fn visit_trait_item_fn(&mut self, function: &'a TraitItemFn) {
        if let Some(block) = &function.default {
            self.function(&function.attrs, &function.sig, block);
        }
    }

    fn visit_item_impl(&mut self, item: &'a ItemImpl) {
        if !is_elsewhere(&item.attrs) {
            let owner = self.text(&item.self_ty);
            let owner = owner.split('<').next().unwrap_or_default().into();
            self.owned(owner, |finder| item.items.iter().for_each(|item| finder.visit_impl_item(item)));
        }
    }

    fn visit_item_trait(&mut self, item: &'a ItemTrait) {
        if !is_elsewhere(&item.attrs) {
            self.owned(item.ident.to_string(), |finder| {
                item.items.iter().for_each(|item| finder.visit_trait_item(item))
            });
        }
    }

    fn visit_expr_binary(&mut self, binary: &'a ExprBinary) {
        let (operator, left, right) = (range(&binary.op), range(&binary.left), range(&binary.right));
        if binary.attrs.is_empty() && !binds(&binary.left) && !binds(&binary.right) {
            let texts = others(&binary.op).iter().map(|other| (*other).into());
            let of = self.text(binary);
            let choices = self.choices(&binary.op, &of, texts);
            if !choices.is_empty() {
                self.site(range(binary), Form::Operator { left, operator, right, choices });
            }
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'a ExprUnary) {
        if unary.attrs.is_empty() && !matches!(unary.op, UnOp::Deref(_)) && !matches!(*unary.expr, Expr::Lit(_)) {
            let (of, operand) = (self.text(unary), self.source[range(&unary.expr)].into());
            let choices = self.choices(unary, &of, [operand]);
            if !choices.is_empty() {
                self.site(range(unary), Form::Whole(choices));
            }
        }
        visit::visit_expr_unary(self, unary);
    }

    fn visit_expr_match(&mut self, matched: &'a ExprMatch) {
        let has_rest = matched.arms.iter().any(|arm| matches!(arm.pat, Pat::Wild(_)) && arm.guard.is_none());
        self.visit_expr(&matched.expr);
        for arm in &matched.arms {
            self.arm(arm, has_rest && !matches!(arm.pat, Pat::Wild(_)) && arm.attrs.is_empty());
            if let Some((_, guard)) = &arm.guard {
                self.visit_expr(guard);
            }
            self.visit_expr(&arm.body);
        }
    }

    fn visit_expr_repeat(&mut self, repeat: &'a ExprRepeat) {
        self.visit_expr(&repeat.expr);
    }

    // What the compiler computes.
    fn visit_item_const(&mut self, _: &'a ItemConst) {}
    fn visit_item_static(&mut self, _: &'a ItemStatic) {}
    fn visit_item_enum(&mut self, _: &'a ItemEnum) {}
    fn visit_impl_item_const(&mut self, _: &'a ImplItemConst) {}
    fn visit_trait_item_const(&mut self, _: &'a TraitItemConst) {}
    fn visit_expr_const(&mut self, _: &'a ExprConst) {}
    fn visit_type_array(&mut self, _: &'a TypeArray) {}
    fn visit_generic_argument(&mut self, _: &'a GenericArgument) {}
    fn visit_pat(&mut self, _: &'a Pat) {}
}
