#compdef craftsync
# Completes craftsync in zsh. Made by: craftsync completion zsh

_craftsync() {
    local line value
    local -a full shown part home
    for line in "${(@f)$(_CRAFTSYNC_COMPLETE=zsh ${~words[1]} "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null </dev/null)}"; do
        value="${line%%$'\t'*}"
        if [[ -z "$value" ]]; then
            continue
        elif [[ "$value" == '~/'* ]]; then
            home+=("~/${(q)value#\~/}")
        elif [[ "$line" != *$'\t'* ]]; then
            part+=("$value")
        else
            full+=("$value")
            line="${line#*$'\t'}"
            shown+=("$value${line:+  -- $line}")
        fi
    done
    compadd -l -d shown -a full
    compadd -S '' -a part
    compadd -Q -S '' -a home
}

if [[ "${zsh_eval_context[-1]}" == loadautofunc ]]; then
    _craftsync "$@"
else
    compdef _craftsync craftsync
fi
