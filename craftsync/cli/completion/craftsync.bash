# Completes craftsync in bash. Made by: craftsync completion bash

_craftsync() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <(
        _CRAFTSYNC_COMPLETE=bash COMP_LINE="${COMP_LINE:0:COMP_POINT}" \
            COMP_WORDBREAKS="$COMP_WORDBREAKS" "${1/#\~/$HOME}" 2>/dev/null </dev/null
    )
}

complete -o nospace -o nosort -F _craftsync craftsync
