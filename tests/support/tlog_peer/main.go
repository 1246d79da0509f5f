// tlog-peer checks an audit log with Go's packages for signed notes and transparency logs.
//
//	tlog-peer log DIR VKEY COSIGNER...   the checkpoint, every tile, every record, consistency
//	tlog-peer proof FILE VKEY            a proof file, with the entry in its extra bytes
//	tlog-peer sign SKEY < TEXT           print the signed note
//	tlog-peer mldsa NAME < TEXT          print a new verifier key, then the note it signed
package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"filippo.io/torchwood"
	formats "github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch args[0] {
	case "log":
		return checkLog(args[1], args[2], args[3:])
	case "proof":
		return checkProof(args[1], args[2])
	case "sign":
		signer, err := note.NewSigner(args[1])
		if err != nil {
			return err
		}
		return sign(signer)
	case "mldsa":
		private, public, err := fnote.GenerateMLDSAKey(args[1])
		if err != nil {
			return err
		}
		signer, err := fnote.NewMLDSASigner(private)
		if err != nil {
			return err
		}
		fmt.Println(public)
		return sign(signer)
	}
	return errors.New("unknown command")
}

func sign(signer note.Signer) error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	signed, err := note.Sign(&note.Note{Text: string(text)}, signer)
	fmt.Print(string(signed))
	return err
}

func open(data []byte, vkey string) (*formats.Checkpoint, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	checkpoint, _, _, err := formats.ParseCheckpoint(data, verifier.Name(), verifier)
	return checkpoint, err
}

type tiles string

func (t tiles) Height() int { return 8 }
func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		data, err := os.ReadFile(filepath.Join(string(t), torchwood.TilePath(tile)))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}
func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func checkLog(dir, vkey string, cosigners []string) error {
	data, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return err
	}
	checkpoint, err := open(data, vkey)
	if err != nil {
		return err
	}
	for _, each := range cosigners {
		verifier, err := fnote.NewVerifierForCosignatureV1(each)
		if err != nil {
			return err
		}
		if _, err := note.Open(data, note.VerifierList(verifier)); err != nil {
			return err
		}
	}
	size := int64(checkpoint.Size)
	tree := tlog.Tree{N: size}
	copy(tree.Hash[:], checkpoint.Hash)
	reader := tlog.TileHashReader(tree, tiles(dir))
	root, err := tlog.TreeHash(size, reader)
	if err != nil {
		return err
	}
	if root != tree.Hash {
		return errors.New("the tiles have another root")
	}
	for index := int64(0); index < size; {
		tile := tlog.Tile{H: 8, L: -1, N: index / 256, W: int(min(256, size-index))}
		rest, err := os.ReadFile(filepath.Join(dir, torchwood.TilePath(tile)))
		if err != nil {
			return err
		}
		for len(rest) > 0 {
			var entry []byte
			if entry, rest, err = torchwood.ReadTileEntry(rest); err != nil {
				return err
			}
			made, err := tlog.ProveRecord(size, index, reader)
			if err != nil {
				return err
			}
			if err := tlog.CheckRecord(made, size, tree.Hash, index, tlog.RecordHash(entry)); err != nil {
				return err
			}
			index++
		}
	}
	for old := int64(1); old < size; old++ {
		before, err := tlog.TreeHash(old, reader)
		if err != nil {
			return err
		}
		made, err := tlog.ProveTree(size, old, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(made, size, tree.Hash, old, before); err != nil {
			return err
		}
	}
	fmt.Println(size)
	return nil
}

func checkProof(file, vkey string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, signed, found := strings.Cut(string(data), "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("no proof")
	}
	entry, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
	if err != nil {
		return err
	}
	index, err := strconv.ParseUint(strings.TrimPrefix(lines[2], "index "), 10, 63)
	if err != nil {
		return err
	}
	var hashes [][]byte
	for _, line := range lines[3:] {
		hash, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			return err
		}
		hashes = append(hashes, hash)
	}
	checkpoint, err := open([]byte(signed), vkey)
	if err != nil {
		return err
	}
	hasher := rfc6962.DefaultHasher
	leaf := hasher.HashLeaf(entry)
	if err := proof.VerifyInclusion(hasher, index, checkpoint.Size, leaf, hashes, checkpoint.Hash); err != nil {
		return err
	}
	fmt.Println(string(entry))
	return nil
}
