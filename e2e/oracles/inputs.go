package main

import (
	"math/rand"
	"strings"
	"time"
)

var docs = []string{
	`{"name":{"first":"Tom","last":"Anderson"},"age":37,"children":["Sara","Alex","Jack"],"fav.movie":"Deer Hunter","friends":[{"first":"Dale","last":"Murphy","age":44,"nets":["ig","fb","tw"]},{"first":"Roger","last":"Craig","age":68,"nets":["fb","tw"]},{"first":"Jane","last":"Murphy","age":47,"nets":["ig","tw"]}]}`,
	` { "s" : "te\"x\tt" , "i": 42, "f":1.50,"e":1e3,"t":true,"x":false,"n":null,"o":{"b" : 1,"a":"<&>"},"l":[1, "2",null, true,{"k":[]}],"es":"","u":"\u00e9\ud83d\ude00","big":12345678901234567890,"neg":-0,"tiny":1e-9,"huge":1e30,"inf":1e999} `,
	`[1,2.50,"three",[4,[5,[6]]],{"a":"b","c":{"d":"e"}},null,true,false,-7,1e2]`,
	`{"a.b":"dot","a":{"b":"nested","b.c":"inner","*":"st"},"st*r":"star","q?":"quest","sp ace":"space","käse":"umlaut","0":"zero","@at":"at","x#y":"hash","back\\slash":"bs","pi|pe":"pipe","col:on":"colon","dash-ed_key":"d","@keys":"k","":"empty","!":"bang","{b}":"brace","esc\u0061pe":"unescaped","q\"uote":"quote"}`,
	`{"people":[{"nick":"ada","age":36,"role":"admin","pets":["owl"]},{"nick":"bo","age":29,"role":"dev","pets":["cat","dog"]},{"nick":"cy","age":51,"role":"admin","pets":[]},{"nick":"dee","age":29,"role":"ops","on":true},{"nick":"e\"f","on":"false","age":"40"},{"nick":"","on":0,"x":null}],"nums":[3,9,12,4,3.0],"strs":["ab","b","abc","a*c","","Ä"],"mix":[1,"1",true,"true",null,{"":5},[1],false,"f"]}`,
	`{"config":"{\"user\":\"u\",\"list\":[1,2]}","id":["a","b","c"],"val":[1,2,3],"deep":{"deep":{"deep":{"x":1},"x":2},"arr":[{"x":3},{"y":{"x":4}}]},"obj":[{"a":1,"b":2},{"b":3,"c":4},5]}`,
	"{\"a\":1}\n{\"a\":2}\n{\"a\":3,\"b\":[1,2]}\n[4,5]\n\"six\"\n7\n",
	`"just text"`, `42`, `true`, `null`, ``, `   `, `not json`, `{}`, `[]`, `[[]]`, `[{}]`, `{"a":{}}`, `{"a":[]}`,
	`{"a":1,"a":2,"b":{"c":3},"b":{"c":4,"d":5}}`,
	`{"a":"unclosed`, `{"a":{"b":"c"`, `{"a":[1,2`, `[1,2,{"a":3`, `{"a" "b" "c":1}`, `{"a":,"b":2}`, `{a:1,"b":2}`, `[1,,2]`, `[1 2 3]`, `{"a":tru,"b":nul,"c":fals}`, `{"a":nan,"b":Infinity,"c":+5,"d":-inf,"e":NaN,"f":0x10p2,"g":1_000}`,
	`{"a":"\u00zz","b":"\ud800","c":"\ud800\u0041","d":"\q","e":"x\`, "{\"a\":\"raw\ttab\",\"b\":\"\\n\tx\",\"c\":\"\xff\xfe\",\"\xff\":\"bad\"}",
	`{"a":[1,2]]]],"b":3}`, `}{"a":1}`, `][1,2]`, `x{"a":1}y{"a":2}`, `[1,2] [3,4] {"a":5}`, `{"k":{"v":"}"},"x":"]"}`, `{"a":"\\","b":"\\\"","c":"\\\\\\"}`,
	`{"z":1,"y":{"b":2,"a":[3,{"d":4,"c":5}]},"x":[[1,2,3],["long enough to need more than one line of eighty columns","so it is broken up"]],"w":[{"a":1}]}`,
	`{"paths":{"/a/b":{"get":1},"/c":{"post":[{"in":"q"}]}},"a~b":"t","$ref":"r","%p":"pct","<t>":"lt","=":"eq"}`,
}

var paths = []string{
	"", "a", "b", "a.b", "a.0", "b.c", "b.d", "c", "name.last", "age", "children", "children.#", "children.1", "child*.2", "c?ildren.0", `fav\.movie`, "fav.movie", "friends.#.first", "friends.1.last",
	`friends.#(last=="Murphy").first`, `friends.#(last=="Murphy")#.first`, `friends.#(age>45)#.last`, `friends.#(first%"D*").last`, `friends.#(first!%"D*").last`, `friends.#(nets.#(=="fb"))#.first`, `friends.#(age>=44)#`, `friends.#(age<47)#|#`, `friends.#(age<=47)#.age`, `friends.#(age!=47)#.age`, `friends.#(age=47).last`, `friends.#(last="Murphy")#|0.first`, `friends.#(none=="x")#|#`, `friends.#(none=="x")`, `friends.#(nets.#>2)#.first`, `friends.#(nets.0=="fb").first`, `friends.#.nets.#`, `friends.#.nets.0`, `friends.#.nets|0`, `friends.#.nets|@flatten`, `friends.#.{first,age}`, `friends.#.[first,age]|1`, `friends|@reverse|0.first`, "friends.0", "friends.3", "friends.-1", "friends.#.none", "friends.#(", `friends.#(first`, `friends.#[first=="Roger"].last`, `friends.#(first=="Roger"`, "friends.##", "friends.#x", "friends.1x", "friends.00",
	"s", "i", "f", "e", "t", "x", "n", "o", "l", "es", "u", "big", "neg", "tiny", "huge", "inf", "l.0", "l.1", "l.2", "l.3", "l.4.k", "l.#", "l.4.k.#", "o.b", "o.a", "o.c",
	"0", "1", "2", "3", "3.1.1.0", "4.c.d", "4.*", "9", "10", "#", "#.a", "#.c.d", "#|@this", "-1", "00", "18446744073709551616",
	`a\.b`, `a.b\.c`, `st\*r`, `st*`, `st*r`, `q\?`, "q?", "sp ace", "käse", "k?se", "@at", `\@at`, `x\#y`, "x#y", `back\\slash`, "back*", `pi\|pe`, "col:on", "dash-ed_key", "c?l*", "*.b", `a.b\.?`, "@keys", `\@keys`, "!", `\!`, "{b}", `\{b\}`, "escape", `q"uote`, `q\"uote`, "a.*", `a.\*`, "*", "?", "**", "*?", "?*", `*\`, `\`, `\\`, `a\`, `a.`, ".a", "..", "a..b", "a|b", "a|", "|a", "|", ".", "a.|b", "a|.b",
	`people.#(role=="admin").nick`, `people.#(role=="admin")#.nick`, `people.#(age>30)#.nick`, `people.#(nick%"*e").age`, `people.#(nick!%"*e*")#.nick`, `nums.#(>5)`, `nums.#(>5)#`, `nums.#(==3)#`, `nums.#(!=3)#`, `people.#(on==true).nick`, `people.#(on==~true)#.nick`, `people.#(on==~false)#.nick`, `people.#(on==~null)#.nick`, `people.#(on==~*)#.nick`, `people.#(on!=~*)#.nick`, `people.#(on==~x)#.nick`, `people.#(x==~null)#.nick`, `people.#(x==null)#`, `people.#(age>20)#.pets.0`, `people.#(role=="admin")#|#`, `people.#(pets.#)#.nick`, `people.#(nick=="e\"f").age`, `people.#(nick=="")`, `people.#( role == "admin" ).nick`, `people.#(age>"30")#.nick`, `people.#(role>"b")#.nick`, `people.#(role<"b")#.nick`, `people.#(role>="admin")#.nick`, `people.#(role<="admin")#.nick`, `strs.#(%"a*")#`, `strs.#(!%"a*")#`, `strs.#(%"a\*c")#`, `strs.#(%"?")#`, `strs.#(%"")#`, `strs.#(=="")`, `strs.#(!="")#`, `strs.#(<"b")#`, `mix.#(==1)#`, `mix.#("1")#`, `mix.#(==true)#`, `mix.#(==false)#`, `mix.#(>false)#`, `mix.#(>=true)#`, `mix.#(<true)#`, `mix.#(<=false)#`, `mix.#(!=true)#`, `mix.#(==~true)#`, `mix.#(==~false)#`, `mix.#(==~null)#`, `mix.#(==5)#`, `mix.#()#`, `mix.#()`, `mix.#(=)#`, `mix.#(!)#`, `mix.#(!x)#`, `mix.#(===1)#`, `mix.#(%)#`, `nums.#(>5)#.x`, `nums.#(>5).x`, `nums.#(>5)#|0`, `people.#.pets.#.x`, `people.#.pets|#.x`, `people.#(role=="admin")#.pets|@flatten`, `people.#.pets.#(=="cat")`, `people.#.pets.#(=="cat")#`, `people.#(role=="admin")#(age>40)#.nick`, `people.#(role=="admin")#|#(age>40)#.nick`, `people.#(role=="admin")x.nick`,
	"@this", "@reverse", "@ugly", "@pretty", "@valid", "@flatten", "@join", "@keys", "@values", "@tostr", "@fromstr", "@group", "@dig:x", "@dig:a", "@dig", "@none", "@", "@this.a", "@this|a", "@this:x|a", "@thisx", "@reverse.0", "@keys.#", "@values.0", "@keys|@reverse", "@tostr|@fromstr", "@ugly|a", `@pretty:{"sortKeys":true}`, `@pretty:{"indent":"\t","prefix":" "}`, `@pretty:{"width":20}`, `@pretty:{"width":0}`, `@pretty:{"width":-1,"sortKeys":true}`, `@pretty:{"indent":"xx"}`, `@pretty:{"width":"30"}`, `@pretty|@ugly`, `@flatten:{"deep":true}`, `@flatten:{"deep":false}`, `@join:{"preserve":true}`, "@valid|a", "@valid.a", "config|@fromstr", "config.@fromstr.user", "config|@fromstr|list.1", "config.@this", "obj|@join", "obj.@join.b", `obj|@join:{"preserve":true}`, "@group.0", "{id,val}|@group", "{id,val}.@group.#.id", "deep.@dig:x", "deep|@dig:x|0", "@dig:deep.x", "@dig:#.x", "id.@reverse", "id|@reverse|0", "id.@reverse.0", "id.#.@this", "id.@none", "a.@keys", "a|@values", "@this.@keys.@reverse", "@keys:", "@reverse:1|a", "@this:(a|b)|a", `@this:"a|b"|a`, "children.@reverse", "children|@tostr", "x.@flatten",
	"{a,b}", "[a,b]", "{a,b}.a", "[a,b].0", "[a,b]|1", `{"x":a,"y":b}`, `{x:a,"y":b}`, `{"x":a.b,a}`, "{a.b,c}", "{a\\.b,st\\*r}", "[a,[b,c]]", "{a,{b,c}}", "[]", "{}", "[a", "{a", "[a]x", "[a].", "[a]|", "{a,}", "[,]", `{"a\"b":a}`, `{"":a}`, `{:a}`, `{a:}`, "{children.#,age}", `{"n":children.#(%"S*")}`, "{name.{first},age}", "{name.[first,last],age}", "{@this.a}", "{@keys,age}", `{"k":@this|@keys}`, "{age:@this.age}", "name.{first,last}", "name.[first,last].0", "name|{first}", "children.[0,2]", "children.{0}", "[children.#,friends.#.age]", "[a,b,c,d,e,f,g]", "{a,b,c,d,e,f,g}", "{#.a}", "{l|0}", "{o.a,es}",
	`!"text"`, "!5", "!true", "!false", "!null", "!nan", "!inf", "!x", "!", `!{"a":1}`, `!{"a":1}.a`, `![1,2]|#`, "!true.x", `{"lit":!"x","n":!5}`, `[!1,!"a",a]`, "!TRUE", "!-5", `!"a"|@this`, `!"unclosed`, "!5|@this", "[!5,a]",
	"..#", "..0", "..1.a", "..#.a", "..#(a>1).a", "..#(a>1)#.a", "..4", "..5", "..a", "...", "..0.a", "..2.b.1", "..#|@this", "..3.#", "..@reverse", "..|#",
	"k", "k.v", "d", "g", "z", "y.b", "y.a.1.d", "x.1.0", "w.#.a", "paths./a/b.get", `paths.\/a\/b.get`, "paths./c.post.0.in", "paths.*.get", "a~b", "$ref", "%p", "<t>", "=", "paths.@keys", "{paths./c.post.#}", "[paths.@keys,a~b]",
}

func gjsonCases() [][2]string {
	var cases [][2]string
	for i, d := range docs {
		for j, p := range paths {
			// The big documents meet every path, the others a fixed sample.
			if i < 6 || (i*7+j*3)%11 == 0 || len(p) <= 2 {
				cases = append(cases, [2]string{d, p})
			}
		}
	}
	r := rand.New(rand.NewSource(20261123))
	for range 2500 {
		d := randomValue(r, 0)
		if r.Intn(6) == 0 {
			d = mangle(r, d)
		}
		cases = append(cases, [2]string{d, randomPath(r, 0)})
	}
	return cases
}

func pick(r *rand.Rand, options ...string) string { return options[r.Intn(len(options))] }

var keys = []string{"a", "b", "c", "ab", "a.b", "a*", "0", "1", ""}

func randomValue(r *rand.Rand, depth int) string {
	kind := r.Intn(10)
	if depth == 0 {
		kind = 6 + r.Intn(4)
	} else if depth > 3 {
		kind = r.Intn(6)
	}
	sp := pick(r, "", "", "", " ", "\n\t")
	switch {
	case kind < 2:
		return pick(r, `"a"`, `"b"`, `""`, `"x\"y"`, `"a\\"`, `"\u0041\n"`, `"true"`, `"]}"`, `"0"`, `"é"`)
	case kind < 4:
		return pick(r, "0", "1", "-1", "2.50", "1e2", "10", "-0.0", "123456789012345678")
	case kind < 6:
		return pick(r, "true", "false", "null", "{}", "[]")
	case kind < 8:
		var parts []string
		for range r.Intn(5) {
			parts = append(parts, sp+`"`+pick(r, keys...)+`"`+sp+":"+sp+randomValue(r, depth+1))
		}
		return "{" + strings.Join(parts, sp+",") + sp + "}"
	default:
		var parts []string
		for range r.Intn(5) {
			parts = append(parts, sp+randomValue(r, depth+1))
		}
		return "[" + strings.Join(parts, sp+",") + sp + "]"
	}
}

// mangle breaks a value: cuts it, drops a byte, or puts one in.
func mangle(r *rand.Rand, s string) string {
	if s == "" {
		return s
	}
	i := r.Intn(len(s))
	switch r.Intn(3) {
	case 0:
		return s[:i]
	case 1:
		return s[:i] + s[i+1:]
	default:
		return s[:i] + pick(r, `"`, "]", "}", "[", "{", ",", ":", `\`, "x", "n", "-") + s[i:]
	}
}

func randomPath(r *rand.Rand, depth int) string {
	var b strings.Builder
	n := 1 + r.Intn(4)
	for i := range n {
		if i > 0 {
			b.WriteString(pick(r, ".", ".", ".", "|"))
		}
		switch k := r.Intn(20); {
		case k < 9 || depth > 2:
			b.WriteString(pick(r, "a", "b", "c", "ab", `a\.b`, "a*", `a\*`, "?", "0", "1", "2", "*"))
		case k < 11:
			b.WriteString("#")
		case k < 14:
			b.WriteString("#(" + pick(r, "", "a", "b", "a.b", "0", "#", "a.#") + pick(r, "", "==", "!=", "<", "<=", ">", ">=", "%", "!%") +
				pick(r, "", "1", "2.5", `"a"`, `"b"`, "true", "null", "~true", "~false", "~null", "~*", `"*"`, `"?"`) + pick(r, ")", ")#", ")#"))
		case k < 17:
			b.WriteString("@" + pick(r, "this", "reverse", "flatten", "join", "keys", "values", "tostr", "fromstr", "group", "ugly", "pretty", "valid",
				"dig:a", "dig:#", `flatten:{"deep":true}`, `join:{"preserve":true}`, `pretty:{"sortKeys":true}`, `pretty:{"width":12}`))
		case k < 18:
			b.WriteString("[" + randomPath(r, depth+1) + "," + randomPath(r, depth+1) + "]")
		case k < 19:
			b.WriteString("{" + pick(r, "", `"n":`, "m:") + randomPath(r, depth+1) + "," + randomPath(r, depth+1) + "}")
		default:
			b.WriteString(pick(r, "!1", `!"s"`, "!true", "", "#.", "..#", `\`, "#(", "@x", "{", "["))
		}
	}
	return b.String()
}

var regexpKeys = []string{"", "a", "abc", "db.primary.host", "db_replica_HOST", "x__y", "apps/web/token", "äöü-ß", "a-b-c", "aaa", "1 2\t3", "ＡＢ１２", "K\u212a", "[x]{2}", "a\nb", "-._", "token"}

var regexpTargets = []string{"", "x", "my_$1", "$1_x", "${1}_x", "$1x", "${2}_$1", "$$", "a$$b", "$", "a$", "${", "${}", "${1", "$0", "${0}!", "$10", "$01", "${01}", "$-", "$name", "${name}", "${na me}", "$nameé", "$é", "$1$2$3", "$99999999999", "\\1", "$_", "$name-$1"}

var regexpSources = []string{
	"(.*)", "(.+)", "", "a", "a*", "(a*)", "a+?", "^", "$", "^db\\.(\\w+)\\.(\\w+)$", "[._]+", "(?P<name>[a-z]+)(?P<cap>[A-Z]\\w*)", "(?<name>[a-z]+)", "(?i)HOST$", "^x__y$", "\\d+", "\\D", "\\w+", "(\\w)(\\W)", "\\s", "\\S+", "\\b", "\\B", "\\bb", "[\\w-]+", "[^\\w]+", "[[:alpha:]]+", "[^[:digit:]]", "[[:word:]]+", "\\pL+", "\\p{Greek}", "\\PN", "\\p{Lu}", "(?s)a.b", "a.b", "(?m)^b", "(?U)a+", "\\Qa-b\\E", "\\Q[x]\\E", "\\x41", "\\x{e4}", "\\101", "\\z", "\\A.", "[a-c]", "[^/]+$", ".*/", "^.*/(.*)$", "([^/]*)/([^/]*)/(.*)", "(a)|(b)", "(?:a|b)+", "a{2}", "a{2,}", "a{,2}", "{2}", "x{", "a{1001}", "[x]\\{2\\}", "[]x]", "[^]x]", "[[]", "[a&&b]", "[a-c&&b]", "[a--b]", "[a~~b]", "[&&]", "[a-]", "[-a]", "\\<", "\\>", "\\/", "\\-", "\\_", "\\ ", "\\#", "#", "(?x)a b", "\\1", "\\8", "\\h", "\\Z", "\\G", "\\K", "\\C", "\\R", "\\X", "\\e", "\\a\\f\\v", "(?=a)", "(?!a)", "(?<=a)b", "a**", "a++", "*a", "+", "(", ")", "[", "]", "a|", "|a", "()", "(?i)k", "(?i)[k]", "(?i)ß", "[[:nope:]]", "\\p{Nope}", "[[:^alpha:]-]", "[[:]", "[[:a]", "[a[:digit:]z]+", "(?-u:a)", "(?u:a)", "(?R)a", "[\\d\\s]+", "[^\\d]", "[\\D]", "[^\\S]", "[\\pL\\d]+", "[a\\]b]", "[\\Q]\\E]", "^(.*)_(HOST|host)$", "\\u0041", "\\U00000041", "\\b{start}", "(?i:A)b", "é|ä", "[ä-ü]", "\\W+", "(?i)\\w", "[\\x{e4}ö]", ".",
	// What Go refuses, for its words, and what it takes that is close to that.
	"a(b", "((a)", "(?:a", "(?i:a(b)", "a|(b|c", "a)b", "(a))", "a|b)", "()*)", "[a", "x[a-", "é[ä", "[^", "[[:alpha:]", "a[]", "a[^]", "[\\", "\\", "ab\\", "(a\\", "a*[b*", "**", "a|*", "(*a)", "(?:+)", "a(|?)", "{2}", "|{2,3}?", "(?i)*", "\\Q\\E*", "a***", "a+?*", "aé{2}{3}", "a{2}?{3}?b", "a*{2}", "a{2,1}", "xa{1001}?", "a{99999999999}", "a{2,1001}", "a{1001,}", "a{0001}", "(a{100}){11}", "((a{10}){10}){11}x", "((a{10}|b){10}){11}?", "(?:(?:a{10}){0}){1000}", "(?:(?:(?:a{0}b){10}){10}|c{10}){10}", "(?:(?:a{1,}b*){0,}){1000,}", "(a{500}|b){2}{1}", "(a{501}|b){2}", "\\y", "a\\éb", "\\18", "\\x", "\\x4", "\\xg1", "\\x{", "\\x{}", "\\x{4g}", "\\x{110000}", "\\x{41", "[\\z]", "[\\b]", "[a-\\d]", "[\\C]", "(?a)", "(?", "(?i", "(?i-", "(?i-)", "(?--i)", "(?im-sU:a)", "(?P", "(?P=n)", "(?P>n)", "(?P<", "(?P<n", "(?P<>a)", "(?P<n-m>a)", "(?P<é>a)", "(?<", "(?<n", "(?<>a)", "(?<n m>a)", "(?<!a)b>c", "(?'n'a)", "(?#c)a", "[b-a]", "x[a-cé-äz]", "[\\x{42}-\\x41]", "[a-b-a]", "[z--]", "[[:nope:]x]", "a[^[:^nope:]]", "[[:Alpha:]]", "[[:]a:]]", "[[:alpha:", "\\pX", "\\p", "\\p{", "\\p{Gre", "\\p{}", "\\P{Nope}x", "[\\pX]", "\\p{^Nope}", "\\p{Alphabetic}", "\\p{sc=Greek}", "\\p{^Greek}", "\\P{^Greek}", "\\p{any}", "\\p{lc}+", "\\p{Letter}", "\\p{greek}",
}

func base64Inputs() []string {
	inputs := []string{"", "a", "ab", "abc", "YQ==", "YQ=", "YQ", "YWI=", "YWJj", "YW Jj", "YWJj\n", "YW\r\nJj", "\nYWJj", "YQ=\n=", "YQ==\n", "YQ\n==", "YQ===", "YR==", "YWJ=", "YWK=", "=YQ=", "Y=Q=", "====", "=", "==", "+/+/", "-_-_", "+_-/", "AAEC/w==", "AAEC_w==", "8J-YgD8_Pz8-", "not base64!", "aGVs\nbG8=", "aGVs bG8=", "deadbeef", "plain words", "1234", "true", "{\"k\": \"v\"}", "YWJj\t", "YWJj\x00", "YWJjZ", "YWJjZA", "YWJjZA=", "YWJjZA==", "YWJjZA==YWJj", "YWJjZA==\r\n\r\n", "\xff\xff\xff\xff", "\n", "\r\n", "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXo=", "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXo", "YWJj====", "YQ==A", "YQ= ="}
	r := rand.New(rand.NewSource(1))
	for range 300 {
		var b strings.Builder
		for range r.Intn(14) {
			b.WriteString(pick(r, "A", "b", "9", "+", "/", "-", "_", "=", "\n", "\r", "YWJj", "Q=="))
		}
		inputs = append(inputs, b.String())
	}
	return inputs
}

func durationInputs() []string {
	inputs := []string{"", "0", "+0", "-0", "0s", "-0s", "5", "-", "+", ".", "s", ".s", "+.s", "5s", "30s", "1478s", "+5s", "-5s", "5.0s", "5.6s", "5.s", ".5s", "1.0s", "1.004s", "100.00100s", "10ns", "11us", "12µs", "12μs", "13ms", "14s", "15m", "16h", "3h30m", "10.5s4m", "-2m3.4s", "1h2m3s4ms5us6ns", "39h9m14.425s", "52763797000ns", "0.3333333333333333333h", "9007199254740993ns", "9223372036854775807ns", "9223372036854775.807us", "9223372036s854ms775us807ns", "-9223372036854775808ns", "-9223372036854775.808us", "-9223372036854775807ns", "0.100000000000000000000h", "0.830103483285477580700h", "9223372036854775808ns", "9223372036854775.808us", "3000000h", "3", "1d", "1w", "1 s", " 1s", "1s ", "1h ", "soon", "1hh", "1.2.3s", "--1s", "1e3s", "1S", "1H", "1M", "１s", "1s1", "2562047h47m16.854775807s", "2562047h47m16.854775808s", "-2562047h47m16.854775808s", "0.9ns", "1.9ns", "0.0000000009s", "1us", "1.5us", "999ns", "1000ns", "1001ns", "1ms1ns", "59.999999999s", "60s", "3600s", "1m0.5s", "100ms", "1h0m1s", "18446744073709551615ns", "18446744073709551616ns", "0.99999999999999999999999s", "1.00000000000000000001s", "\xffs", "1\xc2s"}
	r := rand.New(rand.NewSource(2))
	for range 300 {
		var b strings.Builder
		b.WriteString(pick(r, "", "", "", "-", "+"))
		for range 1 + r.Intn(3) {
			b.WriteString(pick(r, "0", "1", "12", "999", "1.5", "0.001", "100000", ".25", "7.", "2562047"))
			b.WriteString(pick(r, "h", "m", "s", "ms", "us", "µs", "ns", "s", ""))
		}
		inputs = append(inputs, b.String())
	}
	return inputs
}

var cronSchedules = []string{
	"* * * * *", "0 22 * * *", "*/15 * * * *", "5/15 * * * *", "0 0 30 2 *", "0 0 29 2 *", "0 0 1 * *", "0 0 * * 0", "0 0 * * 7", "0 0 * * SUN", "0 0 * * mon-fri", "0 0 * JAN *", "0 0 1 jan,JUL *", "0 0 13 * 5", "0 0 13 * *", "0 0 */2 * 1", "0 0 */1 * 1", "0 0 ? * 1", "0 0 1-7 * MON", "0 0 1,15 * 3", "0 9-17/2 * * 1-5", "59 23 31 12 *", "0 0 31 * *", "0 0 31 4,6,9,11 *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 0 *", "* * * 13 *", "* * * * 8", "5-1 * * * *", "*/0 * * * *", "1-2-3 * * * *", "1/2/3 * * * *", "a * * * *", "-1 * * * *", "+5 * * * *", ", * * * *", "1,,2 * * * *", "* * * *", "* * * * * *", "", " ", "@daily", "@midnight", "@hourly", "@weekly", "@monthly", "@yearly", "@annually", "@every 6h", "@every 1h30m", "@every 90s", "@every 0s", "@every 500ms", "@every -5m", "@every soon", "@every 1.5s", "@reboot", "@Daily", "0 0 L * *", "0 0 15W * *", "0 0 * * 5L", "0 0 * * 1#2", "0 0 * * sun-sat", "0 0 * * fri-mon", "? ? ? ? ?", "*,5 * * * *", "*-5 * * * *", "*/2,*/3 0 * * *", "0 0 * * */2", "0 0 1 * */2", "0 0 1 * */1", "0 12 * dec 0", "00 07 * * *", "0  22  *  *  *", "0 0 1/10 * *", "0 0 29 2 1",
}

var cronTimes = []time.Time{
	time.Date(2026, 6, 1, 20, 0, 0, 0, time.UTC), time.Date(2026, 6, 1, 22, 0, 0, 0, time.UTC), time.Date(2026, 11, 23, 21, 59, 59, 0, time.UTC), time.Date(2024, 2, 28, 23, 59, 30, 0, time.UTC), time.Date(2025, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(2097, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
}
