// What Go's text/template makes of the templates in crates/registrator/src/desired/template/vectors/. From there:
//
//	go run ../../../../../testkit/witness/go-template/main.go container.json < templates.txt > new.txt
//
// Each template is a line; below it stands what it printed, after "= ", or "! " when it printed nothing but an error.
// A line after "~ " says what is made of it here instead, and stays.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/template"
)

// As in the library that gliderlabs/registrator uses, as far as templates here name its fields.
type container struct {
	ID, Name string
	Config   *struct {
		Image, Hostname string
		Env             []string
		Labels          map[string]string
	}
	HostConfig      *struct{ NetworkMode string }
	NetworkSettings *struct {
		IPAddress string
		Networks  map[string]struct{ IPAddress string }
		Ports     map[string][]struct{ HostIP, HostPort string }
	}
}

func main() {
	var facts container
	bytes, _ := os.ReadFile(os.Args[1])
	if err := json.Unmarshal(bytes, &facts); err != nil {
		panic(err)
	}
	functions := template.FuncMap{
		"toUpper": strings.ToUpper,
		"toLower": strings.ToLower,
		"split":   func(at, text string) []string { return strings.Split(text, at) },
		"join":    func(between string, list []string) string { return strings.Join(list, between) },
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "= ") || strings.HasPrefix(line, "! ") {
			continue
		}
		fmt.Println(line)
		if line == "" || strings.HasPrefix(line, "# ") || strings.HasPrefix(line, "~ ") {
			continue
		}
		var made strings.Builder
		parsed, err := template.New("tags").Funcs(functions).Parse(line)
		if err == nil {
			err = parsed.Execute(&made, facts)
		}
		if err != nil {
			fmt.Println("!", strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("= " + strings.ReplaceAll(made.String(), "\n", "␤"))
		}
	}
}
