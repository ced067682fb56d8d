// Command kcpq-go-peer speaks original KCPQ over kcp-go, so that the Rust client and server meet a transport they do
// not share a line with. It is a test peer: see README.md for its commands and for what it leaves out.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
)

const usage = `usage: kcpq-go-peer COMMAND [FLAGS]
  serve  the original's server
  sub    a subscriber that counts what it receives
  pub    a publisher of numbered messages
  bench  a publisher and a subscriber, for measurements
"kcpq-go-peer COMMAND -h" lists the flags of a command.
`

// errUsage marks a command line that cannot be carried out: exit code 2 instead of 1.
var errUsage = errors.New("usage")

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	commands := map[string]func([]string) error{"serve": runServe, "sub": runSub, "pub": runPub, "bench": runBench}
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	err := commands[args[0]](args[1:])
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		return 2
	default:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
}

// parseFlags accepts flags only; the flag package has printed the problem when it returns an error.
func parseFlags(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return usageError("%v", err)
	}
	if flags.NArg() > 0 {
		return usageError("unexpected argument %q", flags.Arg(0))
	}
	return nil
}

func usageError(format string, args ...interface{}) error {
	return fmt.Errorf("%w: %s", errUsage, fmt.Sprintf(format, args...))
}

// printReport writes the result of a command: one line of JSON on stdout.
func printReport(report interface{}) {
	line, err := json.Marshal(report)
	if err != nil {
		panic(err) // The reports are structs of numbers.
	}
	fmt.Println(string(line))
}
